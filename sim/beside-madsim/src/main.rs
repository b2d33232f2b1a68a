//! Hosts that send each other datagrams, on madsim. The job comes as four numbers: hosts, bytes, milliseconds
//! from one round to the next, rounds. Printed are the messages that have arrived, and the nanoseconds that
//! have passed in the simulation and outside.
#![forbid(unsafe_code)]

use std::io::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use madsim::Config;
use madsim::net::Endpoint;
use madsim::runtime::{Handle, Runtime};
use madsim::time::{TimeHandle, interval_at};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a datagram is sent and received under.
const TAG: u64 = 0;

#[derive(Clone, Copy)]
struct Job {
    hosts: u64,
    bytes: usize,
    every: Duration,
    rounds: u64,
}

impl Job {
    fn from_arguments() -> Option<Self> {
        let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            hosts: next()?,
            bytes: usize::try_from(next()?).ok()?,
            every: Duration::from_millis(next()?),
            rounds: next()?,
        })
    }
}

fn address(host: u64) -> SocketAddr {
    let last = u8::try_from(host + 1).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 2434)
}

async fn send(job: Job, host: u64, endpoint: Endpoint) -> Result<()> {
    let mut message = vec![0; job.bytes.max(8)];
    let mut ticks = interval_at(madsim::time::Instant::now() + job.every, job.every);
    for round in 1..=job.rounds {
        ticks.tick().await;
        message[..8].copy_from_slice(&round.to_le_bytes());
        for other in (0..job.hosts).filter(|other| *other != host) {
            endpoint.send_to(address(other), TAG, &message).await?;
        }
    }
    Ok(())
}

/// Receives all that is sent to one host: how many, and the sum of the numbers in them.
async fn receive(job: Job, endpoint: Endpoint) -> Result<(u64, u64)> {
    let mut message = vec![0; job.bytes.max(8)];
    let (mut count, mut sum) = (0, 0_u64);
    while count < job.rounds * (job.hosts - 1) {
        let (length, _) = endpoint.recv_from(TAG, &mut message).await?;
        let number = message[..length].first_chunk().ok_or(Error::other("too short"))?;
        sum = sum.wrapping_add(u64::from_le_bytes(*number));
        count += 1;
    }
    Ok((count, sum))
}

/// Everything, from within the simulation.
async fn all(job: Job) -> Result<(u64, Duration)> {
    let began = TimeHandle::current().elapsed();
    let hosts = (0..job.hosts).map(|host| {
        let node = Handle::current().create_node().ip(address(host).ip()).build();
        node.spawn(async move {
            let endpoint = Endpoint::bind(address(host)).await?;
            let sending = madsim::task::spawn(send(job, host, endpoint.clone()));
            let received = receive(job, endpoint).await?;
            sending.await.map_err(Error::other)??;
            Ok::<_, Error>(received)
        })
    });
    let hosts: Vec<_> = hosts.collect();
    let mut arrived = 0;
    for host in hosts {
        let (count, sum) = host.await.map_err(Error::other)??;
        assert_eq!(sum, (job.hosts - 1) * job.rounds * (job.rounds + 1) / 2, "each message once");
        arrived += count;
    }
    Ok((arrived, TimeHandle::current().elapsed().saturating_sub(began)))
}

fn main() -> Result<()> {
    let job = Job::from_arguments().ok_or(Error::other("hosts, bytes, milliseconds, rounds"))?;
    // Outside of the runtime this is the real clock.
    let started = Instant::now();
    // Datagrams take one to ten milliseconds, and none is lost: madsim's own defaults.
    let runtime = Runtime::with_seed_and_config(1, Config::default());
    let (arrived, simulated) = runtime.block_on(all(job))?;
    println!("{arrived} {} {}", simulated.as_nanos(), started.elapsed().as_nanos());
    Ok(())
}
