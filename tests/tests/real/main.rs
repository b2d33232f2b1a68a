//! Real processes, real multicast, real cuts in the wire.
//!
//! Every test makes the network that its nodes live in and takes it away; see `quorate_tests`.

mod bad_input;
mod bringing;
mod clients;
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
mod hrana;
mod http;
mod interrupted;
mod leaving;
mod merging;
mod owning;
mod partitions;
mod playground;
mod proxy;
mod refusing;
mod restoring;
mod returning;
mod scenarios;
mod sessions;
mod shell;
mod splits;
mod status;
mod strategies;
mod tls;
mod transactions;
mod users;
mod verifying;
