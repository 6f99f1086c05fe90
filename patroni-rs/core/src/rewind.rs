//! When a node must be rewound.
