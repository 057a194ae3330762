//! The container rung: the test image on a Docker engine, by testcontainers.

use std::net::IpAddr;
use std::time::Duration;

use testcontainers::bollard::models::PortBinding;
use testcontainers::bollard::{API_DEFAULT_VERSION, Docker};
use testcontainers::core::IntoContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};
use tokio::time::timeout;

use crate::ladder::{Rung, Settings};
use crate::server::{Handle, SERVER_SETTINGS, Server};
use crate::url;

const DEFAULT_IMAGE: &str = "changeover-test-postgres:18";
const ENGINE_LIMIT: Duration = Duration::from_secs(10);
/// An image of one's own choice may be pulled; that takes its time.
const PULL_LIMIT: Duration = Duration::from_mins(5);
const PORT: u16 = 5432;
/// Where the data lie in the container: at a place that no image has, so that every user may write to it.
const DATA: &str = "/memory";
/// The size of the file system in memory that they lie on. All tests need some hundred megabytes of it at once, and the log at
/// most one gigabyte.
const DATA_GIBIBYTES: u64 = 3;
/// How long a container may take to answer at its own address, where it can be reached there at all.
const DIRECT_LIMIT: Duration = Duration::from_secs(2);

pub(crate) async fn start(settings: &Settings) -> Result<Server, String> {
    let image = settings.image.as_deref().unwrap_or(DEFAULT_IMAGE);
    let engine = engine(settings.docker_host.as_deref()).await?;
    let known = timeout(ENGINE_LIMIT, engine.inspect_image(image)).await.is_ok_and(|answer| answer.is_ok());
    if !known && settings.image.is_none() {
        return Err(format!("the Docker engine has no image {image}; run `.ci/postgres-image` to build it"));
    }
    let start = timeout(PULL_LIMIT, run(image, settings.docker_host.is_none()));
    start.await.map_err(|_| format!("image {image} did not start within {} s", PULL_LIMIT.as_secs()))?
}

pub(crate) async fn stop(id: &str) -> Result<(), String> {
    use testcontainers::bollard::query_parameters::RemoveContainerOptionsBuilder;
    let engine = engine(std::env::var("DOCKER_HOST").ok().as_deref()).await?;
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    engine.remove_container(id, Some(options)).await.map_err(|error| error.to_string())
}

async fn engine(host: Option<&str>) -> Result<Docker, String> {
    let seconds = ENGINE_LIMIT.as_secs();
    let client = match host {
        Some(host) if host.starts_with("unix:") => {
            Docker::connect_with_unix(host, seconds, API_DEFAULT_VERSION)
        }
        Some(host) => Docker::connect_with_http(host, seconds, API_DEFAULT_VERSION),
        None => Docker::connect_with_local_defaults(),
    };
    let client = client.map_err(|error| format!("no Docker engine: {error}"))?;
    match timeout(ENGINE_LIMIT, client.ping()).await {
        Ok(Ok(_)) => Ok(client),
        Ok(Err(error)) => Err(format!("no Docker engine answers: {error}")),
        Err(_) => Err(format!("the Docker engine did not answer within {seconds} s")),
    }
}

async fn run(image: &str, engine_is_here: bool) -> Result<Server, String> {
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    };
    let in_memory = engine_is_here && free_gibibytes().is_some_and(|free| free >= 2 * DATA_GIBIBYTES);
    let mut settings = SERVER_SETTINGS.to_vec();
    if in_memory {
        settings.push(("max_wal_size", "1GB"));
    }
    let arguments = settings.iter().flat_map(|(key, value)| ["-c".to_owned(), format!("{key}={value}")]);
    let mut request = GenericImage::new(name, tag)
        .with_exposed_port(PORT.tcp())
        .with_cmd(std::iter::once("postgres".to_owned()).chain(arguments))
        // Understood by the official images too, so that one of those can be named instead of ours.
        .with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust")
        .with_shm_size(256 * 1024 * 1024);
    if in_memory {
        // Every test makes and removes a database of some hundred files: on a disk, a seventh of all processor time.
        request = request.with_env_var("PGDATA", format!("{DATA}/cluster"));
    }
    if engine_is_here {
        // A server that trusts everybody is offered to this machine alone.
        request = request.with_host_config_modifier(move |host| {
            let here = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some("0".to_owned()) };
            host.network_mode = Some("bridge".to_owned());
            host.publish_all_ports = Some(false);
            host.port_bindings = Some([(format!("{PORT}/tcp"), Some(vec![here]))].into());
            if in_memory {
                let options = format!("rw,mode=1777,size={DATA_GIBIBYTES}g");
                host.tmpfs = Some([(DATA.to_owned(), options)].into());
            }
        });
    }
    let container = request.start().await.map_err(|error| format!("image {image}: {error}"))?;
    let at = |error| format!("image {image}: {error}");
    let host = container.get_host().await.map_err(at)?.to_string().replace("localhost", "127.0.0.1");
    let port = container.get_host_port_ipv4(PORT.tcp()).await.map_err(at)?;
    let handle = Handle::Container { id: container.id().to_owned(), image: image.to_owned() };
    let published = format!("postgres://postgres@{host}:{port}/postgres");
    let mut server = Server::started(Rung::Container, published, handle).await?;
    // Past the engine's proxy, which copies every byte once more.
    if engine_is_here && let Ok(ip) = container.get_bridge_ip_address().await {
        let direct = url::with_address(server.url(), &host_in_url(ip), PORT);
        server.prefer(direct, DIRECT_LIMIT).await;
    }
    // It outlives this process; the note says how to stop it.
    std::mem::forget(container);
    Ok(server)
}

fn host_in_url(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

/// What this machine could give to a file system in memory; `None` where nothing says so.
fn free_gibibytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024 / 1024)
}
