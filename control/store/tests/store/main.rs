//! The store from outside: the contract every `Store` keeps, and what the embedded file survives.

mod contract;
mod full_disk;
mod kill;
mod model;
mod reopen;
mod support;
