//! Tests of the consensus code, from small to large.
//!
//! `quorum` every quorum up to seven voters · `net` a small network of replicas with disks, pure and
//! deterministic, that checks the safety properties after every step · `scenario` transcripts in
//! `scenarios/*.txt` that a person can read and extend · the traps others fell into, one named test
//! each, in `election`, `membership`, `storage` · `reads`, `transfer`, `flow` · `liveness` what must
//! go on again · `explore` thousands of short random runs.

mod apart;
mod checks;
mod election;
mod explore;
mod flow;
mod liveness;
mod membership;
mod net;
mod quorum;
mod reads;
mod scenario;
mod show;
mod storage;
mod transfer;
mod window;
