//! Files written for PostgreSQL, and the values that go into them.
