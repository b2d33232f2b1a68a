//! A run as a page: a lane for each host and client, time from left to right, and everything that was told.
//!
//! `told` what the world tells, typed · `message` the numbers of a message · `recording` what is kept of a
//! run · `state` what hosts are in each log · `columns` the same as columns of numbers · `page` the document ·
//! `page.html`, `page.css` and `*.js` what a browser makes of it.
//!
//! A recording is kept beside the lines of [`crate::trace::Trace`], of the same calls, and draws nothing: the
//! events and the hash of a run are the same with it and without.

mod columns;
mod message;
mod page;
mod recording;
mod state;
mod told;

pub use message::Facts;
pub use page::page;
pub use recording::{Fate, Mark, Recording, Way};
pub use told::{Ask, Became, Kind, Lane, Told};
