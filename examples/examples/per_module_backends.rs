//! Two modules on two backends by settings alone: what is written to one is not in the other.

use changeover::events::{Append, Expected, NewEvent, ReadAll, StreamId};
use changeover::{Json, PersistenceOptions, Result, Uuid, connect_with, registry};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("changeover-{}", Uuid::now_v7()));
    let options = PersistenceOptions::new()
        .with("persistence.orders", "old")
        .with("persistence.billing", "new")
        .with("backends.old.kind", "sqlite")
        .with("backends.old.path", folder.join("old.db").display().to_string())
        .with("backends.new.kind", "sqlite")
        .with("backends.new.path", folder.join("new.db").display().to_string());
    let db = connect_with(options, registry()).await?;

    for module in ["orders", "billing", "orders"] {
        let event = NewEvent::new("Noted", Json::of(&serde_json::json!({ "by": module }))?)?;
        let stream = StreamId::new("Note", Uuid::now_v7())?;
        db.events(module)?
            .store()
            .await?
            .append(Append::one(stream, Expected::NoStream, vec![event]))
            .await?;
    }
    for module in ["orders", "billing"] {
        let module = db.module(module)?;
        let count = module.events().store().await?.read_all(ReadAll::default()).await?.events.len();
        println!("{}: {count} events, on backend {}", module.name(), module.configured_backend());
    }
    db.close().await;
    // The folder was made by this program; that it stays behind harms nobody.
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}
