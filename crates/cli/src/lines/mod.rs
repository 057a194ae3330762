//! Files of JSON Lines: read and checked on a thread of their own, stored in batches, each bad line told by its number.

mod import;
mod members;
mod parts;
mod progress;
mod source;

pub use import::{Report, Target, import, is_about_the_data, patiently, run};
pub use members::{Members, members};
pub use parts::in_parts;
pub use progress::Progress;
pub use source::{Parse, of};
