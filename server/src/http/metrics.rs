//! `/metrics`: the status as numbers, in the text format of Prometheus. Of what is measured between
//! servers each node tells its own side.

mod between;

use std::fmt::Write;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use quorate_core::State as Life;

use super::{App, Served, refuse};
use crate::view::StatusView;

pub(super) async fn serve(State(app): State<App>) -> Response {
    let view = match app.view().await {
        Ok(view) => view,
        Err(response) => return response,
    };
    let measures = match app.handle.measures().await {
        Ok(measures) => measures,
        Err(stopped) => return refuse(StatusCode::SERVICE_UNAVAILABLE, &stopped.to_string()),
    };
    let configuration = app.handle.configuration();
    let text = of_node(&view, &app.served) + &between::servers(configuration.as_deref(), &measures);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn of_node(view: &StatusView, served: &Served) -> String {
    let mut text = String::new();
    let mut one = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a String does not fail.
        let _ = write!(text, "# HELP quorate_{name} {help}\n# TYPE quorate_{name} {kind}\n");
        let _ = writeln!(text, "quorate_{name} {value}");
    };
    let coordinates = view.coordinator.as_deref() == Some(view.node.as_str());
    let servers = u64::try_from(view.servers.len()).unwrap_or(u64::MAX);
    one("member", "gauge", "1 while this node is a member.", (view.state == Life::Member).into());
    one("coordinator", "gauge", "1 while this node coordinates.", coordinates.into());
    one("quorum", "gauge", "1 while a quorum is there.", view.no_quorum.is_none().into());
    one("servers", "gauge", "Servers of the configuration.", servers);
    one("voters", "gauge", "Voters of the configuration log.", view.quorum.voters.into());
    one("configuration_version", "gauge", "Version of the configuration.", view.version);
    one("log_term", "gauge", "Term of the configuration log.", view.log.term);
    one("log_last_index", "gauge", "Last index of the configuration log.", view.log.last);
    one("log_commit_index", "gauge", "Commit index of the configuration log.", view.log.commit);
    one("damaged", "gauge", "1 if part of the log is unreadable.", view.damaged.into());
    let c = view.counters;
    one("datagrams_bad_total", "counter", "Malformed or foreign datagrams.", c.datagrams_bad);
    let other = c.datagrams_other_group;
    one("datagrams_other_group_total", "counter", "Datagrams of other groups.", other);
    one("packets_bad_total", "counter", "Malformed packets.", c.packets_bad);
    one("messages_dropped_total", "counter", "Log messages out of place.", c.messages_dropped);
    one("handshakes_refused_total", "counter", "Handshakes refused.", c.refused);
    one("campaigns_total", "counter", "Elections started.", c.campaigns);
    let (clients, requests) = served.counts();
    one("clients", "gauge", "Connections of clients to the client port.", clients);
    one("client_requests_total", "counter", "Requests over the client port.", requests);
    text
}
