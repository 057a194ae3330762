//! The binary forms of labels and vectors.

use std::collections::BTreeMap;
use std::error::Error as StdError;

use changeover_core::playbooks::Embedding;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::codec::JSONB;

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

/// The numbers of a vector as the database gave them, not yet checked.
pub(super) struct VectorIn(pub Vec<f32>);

impl<'a> FromSql<'a> for VectorIn {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let (head, numbers) = raw.split_first_chunk::<4>().ok_or("a vector without its length")?;
        let (numbers, rest) = numbers.as_chunks::<4>();
        if !rest.is_empty() || numbers.len() != usize::from(u16::from_be_bytes([head[0], head[1]])) {
            return Err("a vector of another length than it says".into());
        }
        Ok(Self(numbers.iter().copied().map(f32::from_be_bytes).collect()))
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }
}
