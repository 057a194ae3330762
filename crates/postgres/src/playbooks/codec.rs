//! The binary forms of labels and vectors.

use std::collections::BTreeMap;
use std::error::Error as StdError;

use changeover_core::playbooks::Embedding;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::codec::JSONB;
use crate::params::{Element, Typed, UNNUMBERED, named};

type Failure = Box<dyn StdError + Sync + Send>;

/// Labels on their way to the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelsOut<'a>(pub &'a BTreeMap<String, String>);

impl ToSql for LabelsOut<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.extend_from_slice(&[JSONB]);
        out.extend_from_slice(&serde_json::to_vec(self.0)?);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

impl Typed for LabelsOut<'_> {
    fn of() -> Type {
        Type::JSONB
    }
}

impl Element for LabelsOut<'_> {
    fn array() -> Type {
        Type::JSONB_ARRAY
    }
}

/// A vector on its way to the database; extensions have no fixed type number, so it is known by its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct VectorOut<'a>(pub &'a Embedding);

impl ToSql for VectorOut<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let numbers = self.0.as_slice();
        out.extend_from_slice(&u16::try_from(numbers.len())?.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        for number in numbers {
            out.extend_from_slice(&number.to_be_bytes());
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}

impl Typed for VectorOut<'_> {
    fn of() -> Type {
        named("vector")
    }
}

/// Vectors on their way to the database. An array's binary form names the type of its elements by number; where that is
/// not known they go as text, in which every number is written so that it is read as the same.
#[derive(Clone, Debug)]
pub(super) struct VectorsOut<'a>(pub Vec<Option<VectorOut<'a>>>);

impl ToSql for VectorsOut<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        if ty.oid() != UNNUMBERED {
            return self.0.to_sql(ty, out);
        }
        let text = |vector: &Option<VectorOut<'_>>| match vector {
            None => "NULL".to_owned(),
            Some(VectorOut(vector)) => {
                let numbers: Vec<_> = vector.as_slice().iter().map(f32::to_string).collect();
                format!("\"[{}]\"", numbers.join(","))
            }
        };
        let vectors: Vec<_> = self.0.iter().map(text).collect();
        out.extend_from_slice(format!("{{{}}}", vectors.join(",")).as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "_vector"
    }

    fn encode_format(&self, ty: &Type) -> Format {
        if ty.oid() == UNNUMBERED { Format::Text } else { Format::Binary }
    }

    to_sql_checked!();
}

impl Typed for VectorsOut<'_> {
    fn of() -> Type {
        named("_vector")
    }
}

/// The numbers of a vector as the database gave them, as such or as an array, not yet checked.
pub(super) struct VectorIn(pub Vec<f32>);

impl<'a> FromSql<'a> for VectorIn {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        if *ty == Type::FLOAT4_ARRAY {
            return Vec::from_sql(ty, raw).map(Self);
        }
        let (head, numbers) = raw.split_first_chunk::<4>().ok_or("a vector without its length")?;
        let (numbers, rest) = numbers.as_chunks::<4>();
        if !rest.is_empty() || numbers.len() != usize::from(u16::from_be_bytes([head[0], head[1]])) {
            return Err("a vector of another length than it says".into());
        }
        Ok(Self(numbers.iter().copied().map(f32::from_be_bytes).collect()))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::FLOAT4_ARRAY || ty.name() == "vector"
    }
}
