//! Numbers, booleans and units as the reference parses them.
