//! Real processes, real multicast, real cuts in the wire.
//!
//! Every test makes the network that its nodes live in and takes it away; see `quorate_tests`.

mod bad_input;
mod bringing;
mod commands;
mod configuring;
mod copies;
mod crashes;
mod databases;
mod delta;
mod deploying;
mod disks;
mod expecting;
mod files;
mod forming;
mod http;
mod interrupted;
mod leaving;
mod merging;
mod owning;
mod partitions;
mod refusing;
mod restoring;
mod returning;
mod scenarios;
mod splits;
mod verifying;
