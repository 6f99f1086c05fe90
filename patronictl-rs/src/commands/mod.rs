//! The commands of patronictl, a file per family. What they decide is pure and
//! tested beside them; what they do goes through `Context`.

mod config_edit;
mod diff;
mod doctor;
mod edit_config;
mod editor;
mod failover;
mod flush;
mod list;
mod pause;
mod query;
mod reinit;
mod reload;
mod remove;
mod restart;
mod role_change;
mod schedule;
mod select;
mod show;
pub mod table;
mod target;
mod watch;
