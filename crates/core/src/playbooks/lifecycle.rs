//! What storing and changing a version makes of it: the same for every backend.

use super::request::Edit;
use super::values::{NewPlaybook, Playbook, Status};
use crate::error::{Error, ErrorKind};
use crate::text::Text;
use crate::time::Timestamp;

impl NewPlaybook {
    /// The version as it stands right after the store stored it at `now`.
    pub fn stored(mut self, now: Timestamp) -> Playbook {
        let created_at = self.created_at.unwrap_or(now);
        self.content_hash = Some(self.hash());
        self.created_at = Some(created_at);
        Playbook {
            playbook: self,
            disabled: None,
            deprecation_notice: None,
            actual_success_rate: None,
            total_executions: 0,
            successful_executions: 0,
            created_at,
            updated_at: now,
            updated_by: None,
        }
    }

    /// Whether putting this version where `stored` is would be a repetition: content, name, description and labels are
    /// equal. What may change later does not count.
    pub fn is_repeat_of(&self, stored: &Self) -> bool {
        self.content == stored.content
            && self.name == stored.name
            && self.description == stored.description
            && self.labels == stored.labels
    }

    /// `AlreadyExists`: the error for a version that is stored with other content.
    pub fn taken(&self) -> Error {
        let message = format!(
            "version {} of playbook {} is already stored with other content, name, description or labels; \
             these never change, store another version",
            self.version, self.playbook_id
        );
        Error::new(ErrorKind::AlreadyExists, message)
    }
}

impl Playbook {
    /// Makes a valid change at `now`. That a version made latest takes the mark from another is the store's part, by
    /// [`Playbook::lose_mark`].
    pub fn apply(&mut self, edit: Edit, by: Option<Text<255>>, now: Timestamp) {
        let now = self.touch(by.clone(), now);
        match edit {
            Edit::MakeLatest => self.playbook.is_latest = true,
            Edit::Status(status, reason) => {
                self.playbook.status = status;
                match status {
                    Status::Active => (self.disabled, self.deprecation_notice) = (None, None),
                    Status::Disabled => self.disabled = Some((now, by, reason)),
                    Status::Deprecated => self.deprecation_notice = reason,
                    Status::Archived => {}
                }
            }
            Edit::Figures { total, successful, rate } => {
                self.total_executions = total;
                self.successful_executions = successful;
                self.actual_success_rate = rate;
            }
            Edit::Embedding(embedding) => self.playbook.embedding = embedding,
        }
    }

    /// Takes the mark of the latest from this version.
    pub fn lose_mark(&mut self, by: Option<Text<255>>, now: Timestamp) {
        self.touch(by, now);
        self.playbook.is_latest = false;
    }

    /// Moves `updated_at` on by a microsecond at least; says to when.
    fn touch(&mut self, by: Option<Text<255>>, now: Timestamp) -> Timestamp {
        let next = Timestamp::from_micros(self.updated_at.as_micros() + 1).unwrap_or(Timestamp::MAX);
        self.updated_at = now.max(next);
        self.updated_by = by;
        self.updated_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playbooks::wire::tests::sample;
    use crate::playbooks::{Change, Rate};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    fn by(name: &str) -> Option<Text<255>> {
        Text::new("by", name).ok()
    }

    // S3-PB-008, P37: the clock stands still or goes back, `updated_at` does not.
    #[test]
    fn every_change_moves_updated_at_on() {
        let mut stored = sample().stored(at(100));
        assert_eq!((stored.updated_at, stored.created_at), (at(100), Timestamp::MAX));
        for (now, expected) in [(100, 101), (50, 102), (200, 200)] {
            stored.apply(Edit::MakeLatest, by("a"), at(now));
            assert_eq!(stored.updated_at, at(expected));
        }
        stored.lose_mark(None, at(1));
        assert_eq!((stored.updated_at, stored.updated_by, stored.playbook.is_latest), (at(201), None, false));
    }

    // S3-PB-002, P22
    #[test]
    fn each_status_keeps_what_belongs_to_it() {
        let mut stored = sample().stored(at(100));
        let mut set = |status, reason: Option<&str>| {
            stored.apply(Edit::Status(status, reason.map(str::to_owned)), by("a"), at(0));
            (stored.disabled.clone(), stored.deprecation_notice.clone())
        };
        let disabled = Some((at(101), by("a"), Some("broken".to_owned())));
        assert_eq!(set(Status::Disabled, Some("broken")), (disabled.clone(), None));
        let notice = Some("use b".to_owned());
        assert_eq!(set(Status::Deprecated, Some("use b")), (disabled.clone(), notice.clone()));
        assert_eq!(set(Status::Archived, None), (disabled, notice));
        assert_eq!(set(Status::Active, None), (None, None));
    }

    // S3-PB-003
    #[test]
    fn impossible_changes_are_invalid() {
        let figures =
            |total, successful| Edit::Figures { total, successful, rate: Rate::from_thousandths(1).ok() };
        for bad in [
            figures(1, 2),
            figures(Edit::MAX_COUNT + 1, 0),
            Edit::Status(Status::Active, Some("why".to_owned())),
            Edit::Status(Status::Archived, Some(String::new())),
            Edit::Status(Status::Disabled, Some("a\0b".to_owned())),
            Edit::Status(Status::Deprecated, Some("a".repeat(NewPlaybook::MAX_TEXT + 1))),
        ] {
            let NewPlaybook { playbook_id, version, .. } = sample();
            let change = Change { playbook_id, version, edit: bad.clone(), by: None };
            assert_eq!(change.validate().unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }

    // P7, S3-PB-006
    #[test]
    fn content_name_description_and_labels_make_a_repetition() {
        let stored = sample().stored(at(1)).playbook;
        let mut other = sample();
        (other.owner, other.is_latest, other.embedding) = (None, false, None);
        assert!(other.is_repeat_of(&stored));
        let edits: [fn(&mut NewPlaybook); 4] = [
            |p| p.content.push(' '),
            |p| p.name = Text::new("name", "other").unwrap(),
            |p| p.description.clear(),
            |p| drop(p.labels.pop_last()),
        ];
        for edit in edits {
            let mut other = sample();
            edit(&mut other);
            assert!(!other.is_repeat_of(&stored), "{other:?}");
        }
    }
}
