//! Replicas, messages and batches as text, for transcripts and for failed assertions.

use super::super::*;

/// Nodes go by letters: a is 1.
pub(super) fn name(node: NodeId) -> char {
    let letter = u8::try_from(node.0).ok().and_then(|n| n.checked_sub(1));
    letter.filter(|l| *l < 26).map_or('?', |l| char::from(b'a' + l))
}

fn names<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
    nodes.into_iter().map(|n| name(*n).to_string()).collect::<Vec<_>>().join(" ")
}

fn half(half: &Half) -> String {
    let voters = half.voters.iter().map(|v| {
        let star = if half.tie_breaker == Some(*v) { "*" } else { "" };
        format!("{}{star}", name(*v))
    });
    format!("{{{}}}", voters.collect::<Vec<_>>().join(" "))
}

/// `{a* b}`: voters, the tie-breaker with a star. Joint: `{a* b} to {a* b c}`.
pub(super) fn membership(membership: &Membership) -> String {
    let mut text = half(&membership.incoming);
    if let Some(outgoing) = &membership.outgoing {
        text = format!("joint {} to {text}", half(outgoing));
    }
    if !membership.learners.is_empty() {
        text += &format!(" learners {}", names(&membership.learners));
    }
    text
}

/// `4/2 "x"`: entry 4 of term 2.
pub(super) fn entry(entry: &Entry) -> String {
    let payload = match &entry.payload {
        Payload::Empty => "empty".to_owned(),
        Payload::Membership(m) => membership(m),
        Payload::Data(data) => format!("{:?}", String::from_utf8_lossy(data)),
    };
    format!("{}/{} {payload}", entry.index, entry.term)
}

fn entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

fn body(body: &Body) -> String {
    match body {
        Body::PreVote { next, last_index, last_term } => {
            format!("PreVote for term {next}, my log ends {last_index}/{last_term}")
        }
        Body::PreVoteReply { next, granted } => {
            format!("PreVoteReply for term {next}: {}", yes(*granted))
        }
        Body::Vote { last_index, last_term, transfer } => {
            let asked = if *transfer { ", the leader asked for it" } else { "" };
            format!("Vote, my log ends {last_index}/{last_term}{asked}")
        }
        Body::VoteReply { granted } => format!("VoteReply: {}", yes(*granted)),
        Body::Append { prev_index, prev_term, entries: list, commit } => {
            let list = if list.is_empty() { "nothing".to_owned() } else { entries(list) };
            format!("Append after {prev_index}/{prev_term}: {list}; commit {commit}")
        }
        Body::Appended { matched } => format!("Appended up to {matched}"),
        Body::AppendRefused { prev_index, hint_index, hint_term } => {
            format!("AppendRefused after {prev_index}, try {hint_index}/{hint_term}")
        }
        Body::Install { snapshot } => format!("Install {}", self::snapshot(snapshot)),
        Body::Heartbeat { commit, round } => format!("Heartbeat {round}, commit {commit}"),
        Body::HeartbeatReply { round } => format!("HeartbeatReply {round}"),
        Body::TimeoutNow => "TimeoutNow".to_owned(),
    }
}

fn snapshot(snapshot: &Snapshot) -> String {
    let Snapshot { index, term, membership: m, .. } = snapshot;
    format!("snapshot {index}/{term} {}", membership(m))
}

/// A message that leaves.
pub(super) fn sent(from: NodeId, to: NodeId, message: &Message, lost: bool) -> String {
    let lost = if lost { "   (lost: no link)" } else { "" };
    let (from, to) = (name(from), name(to));
    format!("{from} -> {to} [term {}] {}{lost}", message.term, body(&message.body))
}

/// A batch that is handed to the disk.
pub(super) fn batch(node: NodeId, ticket: Ticket, ops: &[StorageOp]) -> String {
    let ops = ops.iter().map(|op| match op {
        StorageOp::HardState { state, .. } => {
            let vote = state.vote.map_or("nobody".to_owned(), |v| name(v).to_string());
            format!("term {} vote {vote} commit {}", state.term, state.commit)
        }
        StorageOp::Append { entries: list, .. } => entries(list),
        StorageOp::Snapshot { snapshot: taken, reset, .. } => {
            format!("{}{}", snapshot(taken), if *reset { ", log reset" } else { "" })
        }
        other => format!("{other:?}"),
    });
    let ops = ops.collect::<Vec<_>>().join("; ");
    format!("{} writes #{}: {ops}", name(node), ticket.sequence)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "a follower",
        Role::PreCandidate => "a pre-candidate",
        Role::Candidate => "a candidate",
        Role::Leader => "the leader",
    }
}

/// One line on where a replica stands.
pub(super) fn state(node: NodeId, raft: &Raft) -> String {
    let follows = match raft.leader() {
        Some(leader) if leader != node => format!(" of {}", name(leader)),
        _ => String::new(),
    };
    let abstains = if raft.abstains() { ", abstains" } else { "" };
    format!(
        "{}: {}{follows} in term {}, log {}..{}, commit {}, {}{abstains}",
        name(node),
        role(raft.role()),
        raft.term(),
        raft.snapshot().index,
        raft.last_index(),
        raft.commit(),
        membership(raft.membership()),
    )
}

/// What a transcript compares with after a step.
pub(super) struct Before {
    role: Role,
    term: Term,
    membership: Membership,
    held: Vec<(NodeId, Message)>,
}

impl Before {
    pub(super) fn of(raft: &Raft) -> Self {
        Self {
            role: raft.role(),
            term: raft.term(),
            membership: raft.membership().clone(),
            held: raft.outbox.held().map(|(to, m, _)| (to, m.clone())).collect(),
        }
    }

    /// What became of role, term and membership.
    pub(super) fn changes(&self, raft: &Raft, lines: &mut Vec<String>) {
        let who = name(raft.settings.node);
        if self.term != raft.term() || self.role != raft.role() {
            lines.push(format!("{who} is {} in term {}", role(raft.role()), raft.term()));
        }
        if self.membership != *raft.membership() {
            lines.push(format!("{who} goes by {}", membership(raft.membership())));
        }
    }

    /// Messages that are held back since.
    pub(super) fn held(&self, raft: &Raft, lines: &mut Vec<String>) {
        for (to, message, until) in raft.outbox.held() {
            if !self.held.iter().any(|(t, m)| *t == to && m == message) {
                let (who, to) = (name(raft.settings.node), name(to));
                let text = body(&message.body);
                lines.push(format!("{who} holds back until #{until} is durable: to {to} {text}"));
            }
        }
    }
}
