//! Stores that follow their module: a call that meets `Moved` finds the new owner and is made again there.
//!
//! Callers give the ids of what they write, so the repeated call is the same write. `Moved` says that nothing was stored;
//! an error that leaves this open is never answered by a repetition here.

mod audit;
mod events;
mod follow;
mod playbooks;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use changeover_core::backend::Family;
use changeover_core::{Applied, Closing, Error, ErrorKind, ModuleScope, OpenBackend, Result, TenantId};

use crate::home::Patience;
use crate::module::Module;
use crate::shadow::{Beside, Compared, Read};

/// A kind of store, of which a module has one on each backend.
#[async_trait]
pub(crate) trait Kept: Send + Sync + 'static {
    const FAMILY: Family;

    async fn open(backend: &dyn OpenBackend, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<Self>>;

    async fn close(&self) -> Result<()>;
}

/// The store of a module and tenant, wherever the module is. Clones are one handle.
pub(crate) struct Routed<S: ?Sized>(Arc<Inner<S>>);

struct Inner<S: ?Sized> {
    module: Module,
    current: Mutex<Current<S>>,
    /// Held by who opens the store of the next owner.
    changing: tokio::sync::Mutex<()>,
    closing: Closing,
    /// What reads are compared with.
    beside: Arc<Beside<S>>,
}

/// The store of the owner of one generation.
pub(crate) struct Current<S: ?Sized> {
    pub(crate) store: Arc<S>,
    pub(crate) backend: Arc<dyn OpenBackend>,
    pub(crate) name: String,
    pub(crate) generation: u64,
}

impl<S: ?Sized> Clone for Current<S> {
    fn clone(&self) -> Self {
        let (store, backend) = (Arc::clone(&self.store), Arc::clone(&self.backend));
        Self { store, backend, name: self.name.clone(), generation: self.generation }
    }
}

impl<S: ?Sized> Clone for Routed<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Kept + ?Sized> Routed<S> {
    pub(crate) async fn open(module: &Module) -> Result<Self> {
        let current = module.reach(&mut Patience::long()).await?;
        let (current, module) = (Mutex::new(current), module.clone());
        let (changing, closing, beside) = Default::default();
        Ok(Self(Arc::new(Inner { module, current, changing, closing, beside })))
    }

    fn current(&self) -> Current<S> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A call that reads. Where the settings want it, a share of the answers is compared with the store that the module is
    /// moved to, when the caller has them.
    async fn read<R: Read<Store = S>>(&self, read: R) -> Result<R::Answer> {
        let answer = self.call(|store| read.clone().ask(store)).await?;
        if let Some(shadow) = self.0.module.shadow() {
            let owner = self.current();
            if let Some(permit) = shadow.wants(&owner) {
                let (module, beside) = (self.0.module.clone(), Arc::clone(&self.0.beside));
                let compared = Compared { module, owner, read, answer: answer.clone(), beside };
                shadow.compare(permit, compared, self.closed());
            }
        }
        Ok(answer)
    }

    /// The close of the handle or of everything.
    fn closed(&self) -> impl Future<Output = ()> + Send + use<S> {
        let (handle, all) = (self.0.closing.closed(), self.0.module.closing().closed());
        async move {
            tokio::select! {
                () = handle => {}
                () = all => {}
            }
        }
    }

    /// Makes a call, as often as the module moves.
    async fn call<T, F>(&self, call: impl Fn(Arc<S>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.call_within(Patience::long(), |current| call(current.store)).await
    }

    async fn call_within<T, F>(&self, mut patience: Patience, call: impl Fn(Current<S>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut current = self.current();
        if !self.0.closing.is_closed() {
            self.0.module.look_again().await;
            if self.0.module.home().generation() != current.generation {
                current = self.change(current.generation, &mut patience).await?;
            }
        }
        let began = current.generation;
        loop {
            let (generation, name) = (current.generation, current.name.clone());
            let answer = call(current).await;
            match answer {
                // A closed handle opens nothing.
                Err(error) if is_moved(&error) && !self.0.closing.is_closed() => {
                    self.0.module.home().forget(generation);
                    // The first time at once: mostly somebody has found the new owner already.
                    if generation != began && !patience.pause().await {
                        return Err(error);
                    }
                    current = self.change(generation, &mut patience).await?;
                }
                answer => {
                    if answer.is_ok() && generation != began {
                        let (module, waited) = (self.0.module.name(), patience.waited());
                        tracing::info!(%module, backend = name, ?waited, "the module was moved; the call went on there");
                    }
                    return answer;
                }
            }
        }
    }

    /// The store of the owner that comes after a generation.
    async fn change(&self, after: u64, patience: &mut Patience) -> Result<Current<S>> {
        let Ok(_changing) = tokio::time::timeout_at(patience.until(), self.0.changing.lock()).await else {
            return Err(self.0.module.home().nobody("another call waits for its owner", patience.waited()));
        };
        let current = self.current();
        if current.generation > after && current.generation == self.0.module.home().generation() {
            return Ok(current);
        }
        let next: Current<S> = self.0.module.reach(patience).await?;
        let before = std::mem::replace(
            &mut *self.0.current.lock().unwrap_or_else(PoisonError::into_inner),
            next.clone(),
        );
        // Closed in between: nobody would close the new one.
        if self.0.closing.is_closed() {
            next.store.close().await?;
        }
        drop(before);
        Ok(next)
    }

    async fn end(&self) -> Result<()> {
        self.0.closing.close();
        self.current().store.close().await
    }
}

/// Whether nothing was stored because the module is somewhere else.
pub(crate) fn is_moved(error: &Error) -> bool {
    error.kind() == ErrorKind::Moved && error.was_applied() != Some(Applied::Unknown)
}
