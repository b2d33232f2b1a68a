//! The lifecycle, one property a test, in a kind world.

mod lifecycle;
mod world;
