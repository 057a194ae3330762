//! The hazards: all the ways in which a move from SQLite to PostgreSQL is known to go wrong, by number.
//!
//! A *data* hazard is in rows: the plan finds each of them, by table, column and key. A *schema* hazard is in the
//! tables: the plan refuses, or the declarations and the engine are made so that it cannot happen. A *behaviour* is what
//! the two databases do differently: both stores keep one contract, which the conformance suite holds them to (by the
//! cases that `conformance/runs/tests/hazards.rs` names).
//!
//! ```
//! use changeover_cutover::hazards::{self, Kind, Treatment};
//!
//! let hazard = hazards::get(13).expect("numbers are 1 to 68");
//! assert_eq!((hazard.kind, hazard.treatment), (Kind::Data, Treatment::Quarantine));
//! ```

use std::fmt;

use serde::Serialize;

/// Where a hazard lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// In rows.
    Data,
    /// In tables, files and databases.
    Schema,
    /// In what the databases do.
    Behaviour,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Treatment {
    /// Nothing of the value is lost, or what is lost was declared: converted and counted.
    Convert,
    /// The row stays out until somebody decides.
    Quarantine,
    /// The cutover does not begin, or stops.
    Refuse,
    /// The contract of the stores excludes it; nothing is looked for in rows.
    Contract,
}

/// One way to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// Its number, 1 to 68; never given anew.
    pub number: u16,
    /// What it is.
    pub name: &'static str,
    /// Where it lies.
    pub kind: Kind,
    /// What is done about it where nothing else is declared or accepted.
    pub treatment: Treatment,
}

impl Kind {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Schema => "schema",
            Self::Behaviour => "behaviour",
        }
    }
}

impl Treatment {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Convert => "convert",
            Self::Quarantine => "quarantine",
            Self::Refuse => "refuse",
            Self::Contract => "contract",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All of them, by number.
#[rustfmt::skip]
pub const ALL: &[Hazard] = &[
    hazard(1, Kind::Data, Treatment::Quarantine, "a value of another storage class than the column is declared with: text in an integer column, say"),
    hazard(2, Kind::Data, Treatment::Quarantine, "a boolean that is neither 0 nor 1: 2, -1, 't', 'true', 'yes'"),
    hazard(3, Kind::Data, Treatment::Quarantine, "nothing where the new store needs a value, and nothing was declared for that"),
    hazard(4, Kind::Schema, Treatment::Convert, "a default of the old table that the new database does not understand; the new tables have their own"),
    hazard(5, Kind::Data, Treatment::Quarantine, "an integer outside of the bounds that are declared for it; all 64 bits of it are kept otherwise"),
    hazard(6, Kind::Data, Treatment::Quarantine, "a number with a fraction, or beyond 64 bits, in an integer column"),
    hazard(7, Kind::Data, Treatment::Quarantine, "a number with more digits than the declared decimal keeps"),
    hazard(8, Kind::Schema, Treatment::Refuse, "a double precision number that would go into a column of single precision"),
    hazard(9, Kind::Data, Treatment::Quarantine, "an infinite number"),
    hazard(10, Kind::Data, Treatment::Quarantine, "a negative zero, whose sign is lost in JSON and in decimals"),
    hazard(11, Kind::Data, Treatment::Quarantine, "a number written as text in another way than plainly: 0x10, 007, 1e3"),
    hazard(12, Kind::Data, Treatment::Quarantine, "a number where text is declared: its digits as they were written were lost when it was stored"),
    hazard(13, Kind::Data, Treatment::Quarantine, "a NUL character inside of text, which PostgreSQL does not store"),
    hazard(14, Kind::Data, Treatment::Quarantine, "a NUL character inside of JSON, written as an escape"),
    hazard(15, Kind::Data, Treatment::Quarantine, "half of a surrogate pair inside of JSON"),
    hazard(16, Kind::Data, Treatment::Quarantine, "text that is not UTF-8"),
    hazard(17, Kind::Schema, Treatment::Convert, "a file that keeps its text as UTF-16; the driver converts it"),
    hazard(18, Kind::Data, Treatment::Quarantine, "bytes in a text column, or text in a column of bytes"),
    hazard(19, Kind::Data, Treatment::Quarantine, "an object in JSON with a key twice, of which one would be lost"),
    hazard(20, Kind::Data, Treatment::Quarantine, "text that is no JSON by the standard, or not the kind of JSON that is declared"),
    hazard(21, Kind::Data, Treatment::Quarantine, "a number in JSON too long to be written out; all digits of every other are kept"),
    hazard(22, Kind::Data, Treatment::Quarantine, "a time without an offset where nothing says that it is UTC"),
    hazard(23, Kind::Data, Treatment::Quarantine, "a time in another unit or form than declared: seconds, milliseconds, a Julian day, digits as text"),
    hazard(24, Kind::Data, Treatment::Quarantine, "a time with digits below a microsecond"),
    hazard(25, Kind::Data, Treatment::Quarantine, "a date that is not in the calendar, a leap second, a date that is not that of its time, or no time at all"),
    hazard(26, Kind::Data, Treatment::Quarantine, "the hour 24"),
    hazard(27, Kind::Data, Treatment::Quarantine, "a time outside of the years that are stored: 1 to 9999, or from 1970 on where that is declared"),
    hazard(28, Kind::Data, Treatment::Convert, "a time with an offset: the instant is kept, the offset is not"),
    hazard(29, Kind::Data, Treatment::Quarantine, "a value that breaks a limit the old store never enforced: length, words, order of two numbers"),
    hazard(30, Kind::Schema, Treatment::Refuse, "a column of varchar(n) shorter than declared, which drops spaces beyond n in silence"),
    hazard(31, Kind::Schema, Treatment::Convert, "a cast that cuts text; the copier casts nothing"),
    hazard(32, Kind::Schema, Treatment::Refuse, "a column of type character(n), which pads"),
    hazard(33, Kind::Data, Treatment::Quarantine, "empty text where the new store wants a value or nothing"),
    hazard(34, Kind::Schema, Treatment::Convert, "backslashes, tabs and newlines in the text form of COPY; the copier uses the binary form"),
    hazard(35, Kind::Data, Treatment::Quarantine, "nothing in a column of the key"),
    hazard(36, Kind::Data, Treatment::Quarantine, "two rows that are one under the new store's rule: ids in two spellings"),
    hazard(37, Kind::Schema, Treatment::Convert, "text that differs in its normal form only; nothing is normalised"),
    hazard(38, Kind::Behaviour, Treatment::Contract, "another order of text; keys and cursors compare bytes in both stores"),
    hazard(39, Kind::Behaviour, Treatment::Contract, "the place of nulls in an order"),
    hazard(40, Kind::Behaviour, Treatment::Contract, "an order over values of mixed types"),
    hazard(41, Kind::Behaviour, Treatment::Contract, "LIKE, which looks at upper and lower case in one store only"),
    hazard(42, Kind::Behaviour, Treatment::Contract, "double quotes around an unknown name, which one store takes for text"),
    hazard(43, Kind::Behaviour, Treatment::Contract, "division by zero and overflow, which one store answers with null or a rounded number"),
    hazard(44, Kind::Schema, Treatment::Convert, "a sequence that was not moved on: the next id would be one that is there"),
    hazard(45, Kind::Schema, Treatment::Convert, "ids given again after their row was deleted; the highest ever given is kept"),
    hazard(46, Kind::Behaviour, Treatment::Contract, "positions that are not in the order of commits"),
    hazard(47, Kind::Data, Treatment::Quarantine, "a row that refers to a row that is not there, or to itself"),
    hazard(48, Kind::Schema, Treatment::Convert, "references that go in circles; foreign keys are checked when all rows are there"),
    hazard(49, Kind::Data, Treatment::Quarantine, "rows that are the same under a rule that no index enforced"),
    hazard(50, Kind::Schema, Treatment::Refuse, "an index that says something else than its table"),
    hazard(51, Kind::Schema, Treatment::Refuse, "a file that was copied without its -wal, or while it was written to"),
    hazard(52, Kind::Schema, Treatment::Refuse, "a key that nothing keeps: a rowid that VACUUM may change, columns without a unique index"),
    hazard(53, Kind::Schema, Treatment::Refuse, "a table without rowids, generated columns, unique indexes over expressions or parts of a table"),
    hazard(54, Kind::Schema, Treatment::Refuse, "a table or column that is declared and not there, or there and not declared"),
    hazard(55, Kind::Schema, Treatment::Refuse, "names that fall together: differing by case only, or longer than 63 bytes"),
    hazard(56, Kind::Data, Treatment::Quarantine, "a key too long for an index of the new store"),
    hazard(57, Kind::Data, Treatment::Convert, "an id in upper case, or in another spelling: the value is kept, the spelling is not"),
    hazard(58, Kind::Data, Treatment::Quarantine, "an id as 16 bytes where text is declared, or as text where bytes are"),
    hazard(59, Kind::Data, Treatment::Quarantine, "a value too large for the new store"),
    hazard(60, Kind::Behaviour, Treatment::Contract, "an error inside of a transaction, after which one store goes on"),
    hazard(61, Kind::Behaviour, Treatment::Contract, "two writers at once, of which one store has only ever one"),
    hazard(62, Kind::Behaviour, Treatment::Contract, "INSERT OR REPLACE, which deletes"),
    hazard(63, Kind::Behaviour, Treatment::Contract, "how a statement tells the id it gave"),
    hazard(64, Kind::Data, Treatment::Quarantine, "a digest that is not that of its content"),
    hazard(65, Kind::Schema, Treatment::Refuse, "a new store that holds rows before anything was copied"),
    hazard(66, Kind::Schema, Treatment::Refuse, "the record of migrations among the tables to be moved"),
    hazard(67, Kind::Schema, Treatment::Convert, "values that are encrypted or compressed; bytes are copied as they are"),
    hazard(68, Kind::Behaviour, Treatment::Contract, "times given by a default of the database"),
];

const fn hazard(number: u16, kind: Kind, treatment: Treatment, name: &'static str) -> Hazard {
    Hazard { number, name, kind, treatment }
}

/// The hazard of a number.
pub fn get(number: u16) -> Option<&'static Hazard> {
    ALL.get(usize::from(number).checked_sub(1)?)
}

/// Numbers by name, for code.
pub(crate) mod number {
    pub(crate) const CLASS: u16 = 1;
    pub(crate) const BOOLEAN: u16 = 2;
    pub(crate) const MISSING: u16 = 3;
    pub(crate) const RANGE: u16 = 5;
    pub(crate) const NOT_WHOLE: u16 = 6;
    pub(crate) const DIGITS: u16 = 7;
    pub(crate) const INFINITE: u16 = 9;
    pub(crate) const NEGATIVE_ZERO: u16 = 10;
    pub(crate) const ODD_NUMBER: u16 = 11;
    pub(crate) const NUMBER_AS_TEXT: u16 = 12;
    pub(crate) const NUL: u16 = 13;
    pub(crate) const JSON_NUL: u16 = 14;
    pub(crate) const JSON_SURROGATE: u16 = 15;
    pub(crate) const NOT_UTF8: u16 = 16;
    pub(crate) const TEXT_OR_BYTES: u16 = 18;
    pub(crate) const DUPLICATE_KEY: u16 = 19;
    pub(crate) const NOT_JSON: u16 = 20;
    pub(crate) const JSON_NUMBER: u16 = 21;
    pub(crate) const ZONELESS: u16 = 22;
    pub(crate) const TIME_UNIT: u16 = 23;
    pub(crate) const SUB_MICROSECOND: u16 = 24;
    pub(crate) const NO_DATE: u16 = 25;
    pub(crate) const HOUR_24: u16 = 26;
    pub(crate) const YEAR: u16 = 27;
    pub(crate) const OFFSET: u16 = 28;
    pub(crate) const LIMIT: u16 = 29;
    pub(crate) const EMPTY: u16 = 33;
    pub(crate) const NULL_KEY: u16 = 35;
    pub(crate) const SINGLE_PRECISION: u16 = 8;
    pub(crate) const UTF16: u16 = 17;
    pub(crate) const SHORTER: u16 = 30;
    pub(crate) const PADDED: u16 = 32;
    pub(crate) const CORRUPT: u16 = 50;
    pub(crate) const NO_KEY: u16 = 52;
    pub(crate) const ODD_TABLE: u16 = 53;
    pub(crate) const COLUMNS: u16 = 54;
    pub(crate) const NAMES: u16 = 55;
    pub(crate) const NOT_EMPTY: u16 = 65;
    pub(crate) const BOOKKEEPING: u16 = 66;
    pub(crate) const SPELLED_TWICE: u16 = 36;
    pub(crate) const ORPHAN: u16 = 47;
    pub(crate) const DUPLICATE: u16 = 49;
    pub(crate) const LONG_KEY: u16 = 56;
    pub(crate) const UUID_SPELLING: u16 = 57;
    pub(crate) const UUID_FORM: u16 = 58;
    pub(crate) const TOO_LARGE: u16 = 59;
    pub(crate) const DIGEST: u16 = 64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_68_hazards_each_at_its_number_with_a_name_of_its_own() {
        assert_eq!(ALL.len(), 68);
        for (hazard, number) in ALL.iter().zip(1..) {
            assert_eq!(hazard.number, number);
            assert_eq!(get(number), Some(hazard));
            assert_eq!(ALL.iter().filter(|other| other.name == hazard.name).count(), 1, "{number}");
        }
        assert_eq!((get(0), get(69)), (None, None));
    }

    #[test]
    fn only_behaviour_is_left_to_the_contract() {
        for hazard in ALL {
            assert_eq!(hazard.kind == Kind::Behaviour, hazard.treatment == Treatment::Contract, "{hazard:?}");
        }
    }
}
