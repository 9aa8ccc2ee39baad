//! The server as its clients see it, on a memory store: verbs, watches, errors, limits.

mod deletion;
mod lists;
mod nodes;
mod raw;
mod serving;
mod support;
mod watches;
mod writes;
