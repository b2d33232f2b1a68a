//! A client in a small world of servers, by hand and by random schedules.

mod behaviour;
mod explore;
mod found;
mod layouts;
mod serve;
mod transactions;
mod world;
