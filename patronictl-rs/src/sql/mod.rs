//! SQL for `query`: connections as libpq makes them, and values as the reference's driver (psycopg 3, LGPL; read
//! for its rules, not for its text) hands them to Python.

pub mod connect;
mod interval;
mod kinds;
mod load;
mod moment;
mod nested;
mod network;
pub mod object;
