//! What is made of every pair of answers, how long callers wait, and what is repeated: with stores that answer as they are
//! told, and a clock that is turned by hand.

use changeover_core::backend::{Backend, Check, Migrations};
use changeover_core::cutover::CutoverSide;
use changeover_core::events::{Append, Appended, Expected, MockEventStore, NewEvent, StreamId};
use changeover_core::{
    AuditRepository, BackendSettings, Checkpoint, EventStore, Json, LogId, PlaybookCatalog, Registry,
    SettingKey, TenantId, Uuid,
};
use rstest::rstest;

use super::*;
use crate::{Db, PersistenceOptions};

/// What both stores say, and what became of calls.
#[derive(Default)]
struct World {
    file: Option<&'static str>,
    server: Option<&'static str>,
    server_is_down: bool,
    /// Appends are refused by whoever is the owner.
    stuck: bool,
    /// What an append answers where the store does not take it.
    refusal: Option<Error>,
    asked: usize,
    /// Kind of backend and event of each append, taken or not.
    tried: Vec<(&'static str, Uuid)>,
    closed: usize,
}

type Shown = Arc<Mutex<World>>;

#[derive(Clone)]
struct Fake {
    kind: &'static str,
    world: Shown,
}

impl Fake {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn append(&self, request: &Append) -> Result<Appended> {
        let mut world = self.world();
        world.tried.push((self.kind, request.streams[0].events[0].id));
        let takes = match self.kind {
            FILE => world.file == Some(FILE),
            _ => world.server == Some(SERVER),
        };
        if takes && !world.stuck {
            return Ok(Appended {
                streams: Vec::new(),
                checkpoint: Checkpoint::start(LogId(Uuid::nil())),
                repeated: false,
            });
        }
        Err(world
            .refusal
            .clone()
            .unwrap_or_else(|| Error::new(ErrorKind::Moved, "E_FENCED").applied(Applied::No)))
    }
}

#[async_trait::async_trait]
impl Backend for Fake {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn keys(&self) -> &'static [SettingKey] {
        &[]
    }

    async fn open(&self, _: &BackendSettings) -> Result<Arc<dyn OpenBackend>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl OpenBackend for Fake {
    fn kind(&self) -> &'static str {
        self.kind
    }

    async fn events(&self, _: &ModuleScope, _: &TenantId) -> Result<Arc<dyn EventStore>> {
        let (mut store, fake, closing) = (MockEventStore::new(), self.clone(), self.clone());
        store.expect_append().returning(move |request| fake.append(&request));
        store.expect_close().returning(move || {
            closing.world().closed += 1;
            Ok(())
        });
        Ok(Arc::new(store))
    }

    async fn audit(&self, _: &ModuleScope, _: &TenantId) -> Result<Arc<dyn AuditRepository>> {
        Err(Error::invalid("no audit trail here"))
    }

    async fn playbooks(&self, _: &ModuleScope, _: &TenantId) -> Result<Arc<dyn PlaybookCatalog>> {
        Err(Error::invalid("no playbooks here"))
    }

    fn migrations(&self, _: &ModuleScope, _: Family) -> Result<Arc<dyn Migrations>> {
        Err(Error::new(ErrorKind::Unsupported, "no schema here"))
    }

    async fn owner(&self, _: &ModuleScope) -> Result<Option<String>> {
        let mut world = self.world();
        world.asked += 1;
        if self.kind == FILE {
            return Ok(world.file.map(str::to_owned));
        }
        if world.server_is_down {
            return Err(Error::new(ErrorKind::Unavailable, "no answer"));
        }
        Ok(world.server.map(str::to_owned))
    }

    async fn claim(&self, _: &ModuleScope) -> Result<bool> {
        let mut world = self.world();
        if world.server == Some("none") {
            world.server = Some(SERVER);
        }
        Ok(world.server == Some(SERVER))
    }

    fn cutover(&self, _: &ModuleScope) -> Result<CutoverSide> {
        Err(Error::new(ErrorKind::Unsupported, "no cutover here"))
    }

    async fn check(&self) -> Vec<Check> {
        Vec::new()
    }

    async fn close(&self) {}
}

/// A process with a file and a server, whose settings name one.
fn process(settings: &str, file: Option<&'static str>, server: Option<&'static str>) -> (Db, Shown) {
    let world = Shown::default();
    (world.lock().unwrap().file, world.lock().unwrap().server) = (file, server);
    let fake = |kind| Fake { kind, world: Arc::clone(&world) };
    let registry = Registry::new().with(fake(FILE)).with(fake(SERVER));
    let options = PersistenceOptions::new()
        .with("persistence.default", settings)
        .with("backends.file.kind", FILE)
        .with("backends.server.kind", SERVER);
    (crate::connect_lazily(options, registry).unwrap(), world)
}

fn append() -> (Append, Uuid) {
    let event = NewEvent::new("Placed", Json::empty()).unwrap();
    let (stream, id) = (StreamId::new("Order", Uuid::nil()).unwrap(), event.id);
    (Append::one(stream, Expected::Any, vec![event]), id)
}

const MOVED: Option<&str> = Some(SERVER);
const TAKES: Option<&str> = Some(FILE);
const NONE: Option<&str> = Some("none");

// The recovery table: what the stores say decides, the settings only where they say nothing.
#[rstest]
#[case::nothing_anywhere("file", None, None, Ok("file"))]
#[case::a_server_without_an_owner("file", None, NONE, Ok("file"))]
#[case::an_open_file("file", TAKES, None, Ok("file"))]
#[case::before_the_fence("file", TAKES, TAKES, Ok("file"))]
#[case::given_back("file", TAKES, NONE, Ok("file"))]
#[case::fenced("file", MOVED, TAKES, Err(ErrorKind::Moved))]
#[case::on_its_way_back("file", MOVED, NONE, Err(ErrorKind::Moved))]
#[case::switched("file", MOVED, MOVED, Ok("server"))]
#[case::moved_to_another_server("file", MOVED, None, Err(ErrorKind::Config))]
#[case::restored("file", TAKES, MOVED, Err(ErrorKind::Config))]
#[case::a_new_file_after_a_switch("file", None, MOVED, Ok("server"))]
#[case::a_new_file_before_a_switch("file", None, TAKES, Err(ErrorKind::Config))]
#[case::nothing_migrated("server", None, None, Ok("server"))]
#[case::claimed_now("server", None, NONE, Ok("server"))]
#[case::held_by_a_file("server", TAKES, NONE, Ok("file"))]
#[case::before_the_fence_by_the_server("server", TAKES, TAKES, Ok("file"))]
#[case::fenced_by_the_server("server", MOVED, TAKES, Err(ErrorKind::Moved))]
#[case::on_its_way_back_by_the_server("server", MOVED, NONE, Err(ErrorKind::Moved))]
#[case::switched_by_the_server("server", MOVED, MOVED, Ok("server"))]
#[case::another_file("server", None, TAKES, Err(ErrorKind::Config))]
#[tokio::test(start_paused = true)]
async fn the_stores_decide(
    #[case] settings: &str,
    #[case] file: Option<&'static str>,
    #[case] server: Option<&'static str>,
    #[case] expected: Result<&str, ErrorKind>,
) {
    let (db, world) = process(settings, file, server);
    let found = db.module("orders").unwrap().owner().await;
    assert_eq!(found.as_ref().map(|(name, _)| name.as_str()).map_err(Error::kind), expected);
    let claimed = settings == "server" && file.is_none() && server == NONE;
    assert_eq!(world.lock().unwrap().server, if claimed { MOVED } else { server });
}

#[rstest]
#[case::an_open_file_is_believed(TAKES, Ok("file"))]
#[case::a_new_file_too(None, Ok("file"))]
#[case::a_fenced_one_says_nothing_about_the_server(MOVED, Err(ErrorKind::Unavailable))]
#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_reached(
    #[case] file: Option<&'static str>,
    #[case] expected: Result<&str, ErrorKind>,
) {
    let (db, world) = process("file", file, MOVED);
    world.lock().unwrap().server_is_down = true;
    let found = db.module("orders").unwrap().owner().await;
    assert_eq!(found.as_ref().map(|(name, _)| name.as_str()).map_err(Error::kind), expected);
}

// Callers who wait for a fence share their looks, and each is told after its time that the call can be repeated.
#[tokio::test(start_paused = true)]
async fn patience_ends_with_what_is_going_on() {
    let (db, world) = process("file", TAKES, TAKES);
    let store = db.events("orders").unwrap().store().await.unwrap();
    (world.lock().unwrap().file, world.lock().unwrap().asked) = (MOVED, 0);
    let began = Instant::now();
    let calls = (0..50).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.append(append().0).await.unwrap_err() })
    });
    for call in calls.collect::<Vec<_>>() {
        let error = call.await.unwrap();
        assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Moved, Some(Applied::No)));
        assert_eq!(error.detail(), Some(&Detail::Moved { owner: "none".to_owned() }));
    }
    assert_eq!(began.elapsed().as_secs(), 30);
    let asked = world.lock().unwrap().asked;
    assert!(asked < 1_000, "{asked} questions of 50 callers in 30 s");
    let error = store.append(append().0).await.unwrap_err();
    for part in ["orders", "backend file is fenced", "backend server records sqlite", "repeat the call"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    // The same handle serves when it is over.
    world.lock().unwrap().server = MOVED;
    store.append(append().0).await.unwrap();
}

// I3: the repeated call is the same write; a call that may have been stored is not repeated, nor one of a closed handle.
#[tokio::test(start_paused = true)]
async fn only_what_was_not_stored_is_repeated_and_with_the_same_id() {
    let (db, world) = process("file", TAKES, TAKES);
    let store = db.events("orders").unwrap().store().await.unwrap();
    (world.lock().unwrap().file, world.lock().unwrap().server) = (MOVED, MOVED);
    let unknown = Error::new(ErrorKind::Moved, "lost").applied(Applied::Unknown);
    world.lock().unwrap().refusal = Some(unknown);
    let (request, id) = append();
    let error = store.append(request.clone()).await.unwrap_err();
    assert_eq!(error.was_applied(), Some(Applied::Unknown));
    assert_eq!(world.lock().unwrap().tried, [(FILE, id)]);
    world.lock().unwrap().refusal = None;
    store.append(request).await.unwrap();
    assert_eq!(world.lock().unwrap().tried, [(FILE, id), (FILE, id), (SERVER, id)]);

    store.close().await.unwrap();
    (world.lock().unwrap().file, world.lock().unwrap().server) = (TAKES, TAKES);
    assert_eq!(store.append(append().0).await.unwrap_err().kind(), ErrorKind::Moved);
    let world = world.lock().unwrap();
    assert_eq!((world.tried.len(), world.tried[3].0, world.closed), (4, SERVER, 1));
}

// A file that says that it takes writes and refuses them, as one whose record was removed by hand, is not asked without end.
#[tokio::test(start_paused = true)]
async fn an_owner_that_takes_nothing_ends_the_patience_too() {
    let (db, world) = process("file", TAKES, TAKES);
    world.lock().unwrap().stuck = true;
    let store = db.events("orders").unwrap().store().await.unwrap();
    let began = Instant::now();
    let error = store.append(append().0).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Moved, Some(Applied::No)));
    assert_eq!(began.elapsed().as_secs(), 30);
    let tried = world.lock().unwrap().tried.len();
    assert!((100..400).contains(&tried), "{tried} tries in 30 s");
}
