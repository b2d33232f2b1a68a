//! The lifecycle, one property a test, in a kind world.

mod bringing;
mod calm;
mod copies;
mod damaged;
mod databases;
mod doubtful;
mod interactive;
mod leaving;
mod lifecycle;
mod measuring;
mod merging;
mod moving;
mod prefixes;
mod restore;
mod returning;
mod twin;
mod world;
