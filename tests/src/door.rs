//! A way to a node over HTTP that survives the node's restarts: for threads that go on while others
//! stop and start it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use crate::Node;
use crate::net::Namespace;

/// A way to a node, found anew with each request.
#[derive(Clone)]
pub struct Door {
    data: PathBuf,
    space: Arc<Namespace>,
    agent: Agent,
}

impl Door {
    /// To the node that uses the same data directory as `node`, now or later.
    #[must_use]
    pub fn to(node: &Node) -> Self {
        let config = Agent::config_builder();
        let config = config.timeout_global(Some(Duration::from_secs(15)));
        let config = config.http_status_as_error(false).proxy(None).max_idle_connections(4);
        Self {
            data: node.data.clone(),
            space: Arc::clone(&node.space),
            agent: config.build().new_agent(),
        }
    }

    /// Posts JSON with the node's token; the code and the JSON of the answer.
    ///
    /// # Errors
    /// Nobody answers, or not to the end: what was asked may have been done.
    pub fn post(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        self.space.inside(|| self.ask(path, body))
    }

    fn ask(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        let text = |name: &str| {
            fs::read_to_string(self.data.join(name)).map_err(|error| format!("{name}: {error}"))
        };
        let presence: Value =
            serde_json::from_str(&text("node.json")?).map_err(|e| e.to_string())?;
        let at = presence["http"].as_str().ok_or("no HTTP")?;
        let request = self.agent.post(format!("http://{at}{path}"));
        let request =
            request.header("authorization", format!("Bearer {}", text("admin.token")?.trim()));
        let mut response = request.send_json(body).map_err(|error| error.to_string())?;
        let code = response.status().as_u16();
        let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        Ok((code, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }
}
