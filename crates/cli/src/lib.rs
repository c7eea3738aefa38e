//! The `villein` program: the agent, and the commands that talk to a running one.
//!
//! [`run`] takes a command line and gives an exit status. `args` defines every flag once, for clap;
//! `goflags` and `govalue` make clap read them in Go's syntax, which scripts for the reference program
//! use; `help` describes them; `dispatch` chooses the command; `commands` has one file for each, but for
//! `agent`. The wire is `villein-rpc`'s.
//!
//! The invariant of all commands: what they print and their exit status are those of the reference
//! program (cli.md), except where cli.md 7 names a compatible improvement.

mod agent;
pub mod args;
mod commands;
mod dispatch;
mod goflags;
mod govalue;
mod help;
mod interrupt;
mod json;
mod output;

pub use dispatch::run;
