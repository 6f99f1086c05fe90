//! SQL for `query`: connections, and values as Python prints them.

pub mod command_tag;
pub mod connect;
pub mod interval;
pub mod values;
