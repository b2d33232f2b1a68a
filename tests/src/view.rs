//! What a node says at `/status`.

use serde::Deserialize;

/// The part of `/status` that tests look at.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct View {
    /// The node's id.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: String,
    /// Its cluster.
    pub cluster: Option<String>,
    /// The version of the configuration it has applied.
    pub version: u64,
    /// The id of the coordinator.
    pub coordinator: Option<String>,
    /// The servers, by name.
    pub servers: Vec<Server>,
    /// Why nothing can be decided.
    pub no_quorum: Option<NoQuorum>,
    /// Who refused it or was refused.
    pub refused: Vec<String>,
    /// Why it is not let in.
    pub join_refused: Option<String>,
    /// How many voters there are.
    pub quorum: Quorum,
    /// What is missing for `--expect`.
    pub expect: Option<Expect>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// One server.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Server {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `master` or `replica`.
    pub role: String,
    /// `static` or `dynamic`.
    pub registration: String,
    /// `ONLINE` or `AWAY`.
    pub status: String,
    /// Where other nodes reach it.
    pub address: String,
    /// Where it serves HTTP.
    pub http: Option<String>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it breaks ties.
    pub tie_breaker: bool,
}

/// Why nothing can be decided.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct NoQuorum {
    /// Who is missing.
    pub missing: Vec<String>,
    /// Who alone would be enough.
    pub tie_breaker: Option<String>,
    /// How many voters there are.
    pub voters: u32,
}

/// Who decides.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Quorum {
    /// How many vote.
    pub voters: u32,
    /// How many are needed.
    pub needed: u32,
    /// Whether a change is under way.
    pub joint: bool,
}

/// What is missing for `--expect`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Expect {
    /// How many.
    pub missing: u32,
    /// Of how many.
    pub expected: u32,
}

impl View {
    /// The server of that name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|s| s.name == name)
    }

    /// The name of the coordinator.
    #[must_use]
    pub fn coordinator_name(&self) -> Option<&str> {
        let id = self.coordinator.as_deref()?;
        self.servers.iter().find(|s| s.id == id).map(|s| s.name.as_str())
    }

    /// The name of the tie-breaker.
    #[must_use]
    pub fn tie_breaker(&self) -> Option<&str> {
        self.servers.iter().find(|s| s.tie_breaker).map(|s| s.name.as_str())
    }

    /// The names of the servers with that status.
    #[must_use]
    pub fn with_status(&self, status: &str) -> Vec<&str> {
        self.servers.iter().filter(|s| s.status == status).map(|s| s.name.as_str()).collect()
    }
}
