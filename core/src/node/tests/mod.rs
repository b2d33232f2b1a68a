//! The lifecycle, one property a test, in a kind world.

mod bringing;
mod copies;
mod databases;
mod doubtful;
mod leaving;
mod lifecycle;
mod merging;
mod prefixes;
mod restore;
mod returning;
mod world;
