//! What the example programs share with their tests.

pub mod journal;
