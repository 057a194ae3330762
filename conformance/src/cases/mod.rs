//! The cases, a file a subject. Each is a plain function; its doc comment is the sentence of the contract that it
//! checks, and ends with the case's id and the requirements behind it.

pub mod append;
