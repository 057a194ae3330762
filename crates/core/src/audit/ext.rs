//! What every audit repository offers besides, made of its own operations.

use super::AuditRepository;
use super::request::{AuditPage, AuditQuery, Create, Created};
use super::values::NewAuditEvent;
use crate::error::Result;

/// Short forms over [`AuditRepository`].
pub trait AuditRepositoryExt: AuditRepository {
    /// Stores one event, as [`AuditRepository::create`] does.
    fn record(&self, event: NewAuditEvent) -> impl Future<Output = Result<Created>> + Send {
        self.create(Create { events: vec![event] })
    }

    /// Walks the pages of a query, from its own page on to the end.
    fn pages(&self, query: AuditQuery) -> AuditPages<'_, Self> {
        AuditPages { repository: self, query: Some(query) }
    }
}

impl<R: AuditRepository + ?Sized> AuditRepositoryExt for R {}

/// The pages of a query, one after the other: [`AuditRepositoryExt::pages`].
#[derive(Debug)]
pub struct AuditPages<'a, R: ?Sized> {
    repository: &'a R,
    /// What is to be asked next; `None` behind the last page.
    query: Option<AuditQuery>,
}

impl<R: AuditRepository + ?Sized> AuditPages<'_, R> {
    /// The next page, `None` behind the last one. After an error the same page is asked for again.
    pub async fn next(&mut self) -> Result<Option<AuditPage>> {
        let Some(query) = &self.query else { return Ok(None) };
        let page = self.repository.query(query.clone()).await?;
        // The first page has passed over what was to be passed over.
        let next = |query: AuditQuery| AuditQuery { offset: 0, page: page.next, ..query };
        self.query = if page.next.is_some() { self.query.take().map(next) } else { None };
        Ok(Some(page))
    }
}
