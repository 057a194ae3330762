//! A network that fails on command, between the code under test and its PostgreSQL.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Doing, Error};
use crate::url;

/// A TCP proxy for fault tests. Dropping it ends its connections.
///
/// ```no_run
/// # async fn example(db: changeover_testkit::TestDatabase) -> Result<(), changeover_testkit::Error> {
/// let proxy = changeover_testkit::Proxy::start(db.url()).await?;
/// let url = proxy.url(db.url()); // for the store under test
/// proxy.cut_before_reply_to_commit(); // the commit happens, its answer is lost
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    control: Arc<Control>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Control {
    network: watch::Sender<Network>,
    /// What a client sends when the network is to be parted, and how.
    part_at: Mutex<Option<(Vec<u8>, Mode)>>,
    lose_answer_to: Mutex<Option<Lost>>,
    /// How often that was ordered: what was sent before an order is not meant by it.
    orders: AtomicU64,
}

/// Which answer is lost.
#[derive(Debug)]
struct Lost {
    /// To the next message of a client that holds these bytes.
    sent: Vec<u8>,
    /// The server has said this by then; else it is told that the client has left.
    answered: Option<Vec<u8>>,
}

/// A direction of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What clients send.
    ToServer,
    /// What the server answers.
    FromServer,
}

/// What becomes of bytes that do not come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They come when the network is whole again, as TCP sends them once more.
    Late,
    /// They never come, and nothing after them on the same connection: something on the way has forgotten it.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Network {
    mode: Mode,
    /// Connections of an earlier epoch are reset.
    epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Open,
    Frozen,
    Down,
    /// One direction only; connections stay.
    Parted(Way, Fate),
}

impl Network {
    fn is(self, way: Way, fate: Fate) -> bool {
        self.mode == Mode::Parted(way, fate)
    }
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1 in front of the server of `target_url`.
    ///
    /// # Errors
    /// [`Error::Io`] if no port can be had.
    pub async fn start(target_url: &str) -> Result<Self, Error> {
        let target = url::address(target_url).to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.doing("starting the proxy")?;
        let port = listener.local_addr().doing("starting the proxy")?.port();
        let network = watch::Sender::new(Network { mode: Mode::Open, epoch: 0 });
        let control = Arc::new(Control {
            network,
            part_at: Mutex::default(),
            lose_answer_to: Mutex::default(),
            orders: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&control)));
        Ok(Self { port, control, accepting })
    }

    /// `url` through this proxy.
    pub fn url(&self, url: &str) -> String {
        url::with_address(url, "127.0.0.1", self.port)
    }

    /// The address of this proxy.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Resets every connection; new ones are served.
    pub fn cut(&self) {
        self.control.network.send_modify(|network| network.epoch += 1);
    }

    /// Stops forwarding in both directions, new connections included: nothing fails and nothing answers.
    pub fn freeze(&self) {
        self.set(Mode::Frozen);
    }

    /// Goes on after [`freeze`](Self::freeze); nothing that was sent meanwhile is lost.
    pub fn thaw(&self) {
        self.set(Mode::Open);
    }

    /// Nothing comes through in one direction, on new connections either: they are taken, and nothing fails.
    pub fn part(&self, way: Way, fate: Fate) {
        self.set(Mode::Parted(way, fate));
    }

    /// Once, the same from when a client sends `pattern`, which is the first thing that does not come through where that is
    /// what is lost.
    pub fn part_at(&self, pattern: impl Into<Vec<u8>>, way: Way, fate: Fate) {
        *locked(&self.control.part_at) = Some((pattern.into(), Mode::Parted(way, fate)));
    }

    /// Whether one direction is lost.
    pub fn is_parted(&self) -> bool {
        matches!(self.control.network.borrow().mode, Mode::Parted(..))
    }

    /// Makes the network whole again after [`part`](Self::part).
    pub fn join(&self) {
        self.set(Mode::Open);
    }

    /// Resets every connection and each new one, until [`up`](Self::up).
    pub fn down(&self) {
        self.set(Mode::Down);
        self.cut();
    }

    /// Serves connections again after [`down`](Self::down).
    pub fn up(&self) {
        self.set(Mode::Open);
    }

    /// Once: when a client sends `pattern`, the server is given everything up to there and time to finish
    /// it, and the connection is reset before any of its answer travels back.
    ///
    /// A prepared statement is sent as text only the first time; for later calls give bytes of a parameter.
    pub fn drop_reply_after(&self, pattern: impl Into<Vec<u8>>) {
        self.lose(Lost { sent: pattern.into(), answered: None });
    }

    /// Once: from when a client sends `pattern`, its server's answers are kept back, until one of them holds `answered`;
    /// then the connection is reset. For a client that sends more before it waits for an answer, and through a pooler,
    /// which drops the work of a client that has left.
    pub fn drop_reply_until(&self, pattern: impl Into<Vec<u8>>, answered: impl Into<Vec<u8>>) {
        self.lose(Lost { sent: pattern.into(), answered: Some(answered.into()) });
    }

    fn lose(&self, lost: Lost) {
        let mut ordered = self.control.lost();
        self.control.orders.fetch_add(1, Ordering::SeqCst);
        *ordered = Some(lost);
    }

    /// [`drop_reply_after`](Self::drop_reply_after) for the next `COMMIT`.
    pub fn cut_before_reply_to_commit(&self) {
        self.drop_reply_after("COMMIT");
    }

    /// Whether the loss that was ordered has happened.
    pub fn reply_was_dropped(&self) -> bool {
        self.control.lost().is_none()
    }

    fn set(&self, mode: Mode) {
        self.control.network.send_modify(|network| network.mode = mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Control {
    fn lost(&self) -> std::sync::MutexGuard<'_, Option<Lost>> {
        locked(&self.lose_answer_to)
    }

    /// Parts the network, once, when what a client sent says so.
    fn parts(&self, sent: &[u8]) {
        let mut part_at = locked(&self.part_at);
        if part_at.as_ref().is_some_and(|(pattern, _)| holds(sent, pattern))
            && let Some((_, mode)) = part_at.take()
        {
            self.network.send_modify(|network| network.mode = mode);
        }
    }

    /// Once, when what the client has sent lately ends the search for an answer to lose.
    fn loses_answer(&self, sent: &[u8]) -> Option<Lost> {
        let mut lost = self.lost();
        if lost.as_ref().is_some_and(|lost| holds(sent, &lost.sent)) { lost.take() } else { None }
    }
}

fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn holds(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.windows(pattern.len().max(1)).any(|it| it == pattern)
}

async fn accept(listener: TcpListener, target: String, control: Arc<Control>) {
    while let Ok((client, _)) = listener.accept().await {
        let (target, control) = (target.clone(), Arc::clone(&control));
        tokio::spawn(async move {
            let mut network = control.network.subscribe();
            let epoch = network.borrow_and_update().epoch;
            // A reset, not a polite end: the client must not take it for the server's own doing.
            let _ = client.set_zero_linger();
            let gone = async move {
                let _ = network.wait_for(|now| now.epoch != epoch || now.mode == Mode::Down).await;
            };
            tokio::select! {
                () = gone => {}
                _ = forward(client, &target, &control) => {}
            }
        });
    }
}

/// Both directions of one connection, until either side ends it.
async fn forward(mut client: TcpStream, target: &str, control: &Control) -> std::io::Result<()> {
    let mut network = control.network.subscribe();
    thawed(&mut network).await;
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let (mut sent, mut order) = (Vec::new(), 0);
    // Directions in which something was lost for good.
    let (mut deaf, mut mute) = (false, false);
    // Who left without being heard by the other one.
    let (mut client_left, mut server_left) = (false, false);
    loop {
        thawed(&mut network).await;
        let now = *network.borrow_and_update();
        tokio::select! {
            biased;
            _ = network.changed() => {}
            read = client.read(&mut from_client), if !client_left && !now.is(Way::ToServer, Fate::Late) => {
                let bytes = &from_client[..read?];
                thawed(&mut network).await;
                control.parts(bytes);
                let _ = network.wait_for(|now| !now.is(Way::ToServer, Fate::Late)).await;
                deaf |= network.borrow_and_update().is(Way::ToServer, Fate::Never);
                if deaf || server_left {
                    client_left = bytes.is_empty();
                    continue;
                }
                if bytes.is_empty() {
                    return server.shutdown().await;
                }
                server.write_all(bytes).await?;
                let latest = control.orders.load(Ordering::SeqCst);
                if std::mem::replace(&mut order, latest) != latest {
                    sent.clear();
                }
                // A pattern may lie across two reads.
                sent.extend_from_slice(bytes);
                match control.loses_answer(&sent) {
                    Some(Lost { answered: None, .. }) => return finish_unheard(server).await,
                    Some(Lost { answered: Some(last), .. }) => return keep_back(client, server, &last).await,
                    None => {}
                }
                sent.drain(..sent.len().saturating_sub(1024));
            }
            read = server.read(&mut from_server), if !server_left && !now.is(Way::FromServer, Fate::Late) => {
                let bytes = &from_server[..read?];
                thawed(&mut network).await;
                mute |= now.is(Way::FromServer, Fate::Never);
                if mute || client_left {
                    server_left = bytes.is_empty();
                    continue;
                }
                if bytes.is_empty() {
                    return client.shutdown().await;
                }
                client.write_all(bytes).await?;
            }
            // Both left.
            else => return Ok(()),
        }
    }
}

async fn thawed(network: &mut watch::Receiver<Network>) {
    let _ = network.wait_for(|now| now.mode != Mode::Frozen).await;
}

/// The client is heard and gets no answer, up to the one that holds `last`.
async fn keep_back(mut client: TcpStream, mut server: TcpStream, last: &[u8]) -> std::io::Result<()> {
    let (mut from_client, mut from_server) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut answers = Vec::new();
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => match read? {
                0 => return server.shutdown().await,
                read => server.write_all(&from_client[..read]).await?,
            },
            read = server.read(&mut from_server) => {
                let read = read?;
                answers.extend_from_slice(&from_server[..read]);
                if read == 0 || holds(&answers, last) {
                    return Ok(());
                }
            }
        }
    }
}

/// The server does all it was sent, sees the end of the input and leaves. Only then is the client's
/// connection reset, so a test may look at the outcome at once.
async fn finish_unheard(mut server: TcpStream) -> std::io::Result<()> {
    server.shutdown().await?;
    let mut answer = [0; 4096];
    while server.read(&mut answer).await? > 0 {}
    Ok(())
}
