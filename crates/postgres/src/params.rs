//! Arguments that know their type in the database, so that a statement can be sent without having been prepared.

use changeover_core::Uuid;
use tokio_postgres::types::{Kind, ToSql, Type};

use crate::codec::{JsonOut, Micros};

/// An argument of a statement.
pub(crate) trait Param: Sync {
    /// Its value.
    fn value(&self) -> &(dyn ToSql + Sync);

    /// Its type.
    fn of(&self) -> Type;
}

/// A type of ours that has one in the database.
pub(crate) trait Typed: ToSql + Sync {
    /// That one.
    fn of() -> Type;
}

/// One that arrays are made of.
pub(crate) trait Element: Typed {
    /// The type of the array.
    fn array() -> Type;
}

impl<T: Typed> Param for T {
    fn value(&self) -> &(dyn ToSql + Sync) {
        self
    }

    fn of(&self) -> Type {
        T::of()
    }
}

impl<T: Typed> Typed for Option<T> {
    fn of() -> Type {
        T::of()
    }
}

impl<T: Element> Element for Option<T> {
    fn array() -> Type {
        T::array()
    }
}

impl<T: Element> Typed for Vec<T> {
    fn of() -> Type {
        T::array()
    }
}

/// The types of values that stand for themselves.
macro_rules! typed {
    ($($rust:ty => $one:ident, $many:ident;)*) => {$(
        impl Typed for $rust {
            fn of() -> Type {
                Type::$one
            }
        }

        impl Element for $rust {
            fn array() -> Type {
                Type::$many
            }
        }
    )*};
}

typed! {
    bool => BOOL, BOOL_ARRAY;
    i32 => INT4, INT4_ARRAY;
    i64 => INT8, INT8_ARRAY;
    &str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    &[u8] => BYTEA, BYTEA_ARRAY;
    Uuid => UUID, UUID_ARRAY;
    Micros => TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
    JsonOut<'_> => JSONB, JSONB_ARRAY;
}

/// A type known by its name alone: an extension's, whose number differs between databases. The server finds out which one
/// is meant from the function that takes it.
pub(crate) fn named(name: &str) -> Type {
    Type::new(name.to_owned(), UNNUMBERED, Kind::Simple, String::new())
}

/// What stands for the number of such a type.
pub(crate) const UNNUMBERED: u32 = 0;
