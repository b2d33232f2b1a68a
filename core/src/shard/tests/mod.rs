//! Shards of three and two copies in a small world: the wire, the disks and the engines do only what
//! a test says, or what a seed draws.

mod explore;
mod faults;
mod interactive;
mod ownership;
mod quorums;
mod reads;
mod retain;
mod sessions;
mod verify;
mod world;
mod writes;
