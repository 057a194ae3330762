//! The cases: a folder a store, a file a subject. Each is a plain function; its doc comment is the sentence of the
//! contract that it checks, and ends with the case's id and the requirements behind it.

pub mod audit;
pub mod events;
pub mod playbooks;
