//! A disk that fills up: below the reserve nothing more is taken in and what is held goes out; with
//! no byte left nothing acknowledged is lost; with room again everything goes on.

use std::fs::File;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use xinqiao_tests::Result;

use crate::books::{Sources, Sums};
use crate::calls::Running;
use crate::disk::{Disk, Image};
use crate::site::{Process, Site, until};

/// What stays free at first: less than the gateway's reserve, enough to go on with deliveries.
const ROOM: u64 = 64 << 20;

pub(crate) async fn fill() -> Result<Sums> {
    let (mut sums, site, sources) = (Sums::default(), Site::new().await?, Sources::default());
    let file = site.world.path().join("disk.img");
    let disk = Disk::plug_in(Image::ext4(site.world.path())?, &file, &site.disk())?;
    site.furnish()?;
    let mut running = Running::new(Process::start(&site, "log.0", &[])?);
    let mut client = None;
    for number in 0..10 {
        let push = sources.body(number == 5);
        until("a receipt", async || {
            running.keep(&site)?;
            let status = sources.push(&mut client, site.address, &push).await;
            Ok(matches!(status, Some(200..=202)))
        })
        .await?;
    }

    let path = site.disk().join("ballast");
    let ballast = File::create(&path)?;
    let free = || -> Result<u64> {
        let it = statvfs(site.disk())?;
        Ok(it.f_bavail * it.f_frsize)
    };
    let mut length = free()?.saturating_sub(ROOM);
    fallocate(&ballast, FallocateFlags::empty(), 0, length)?;
    let (refused, mut taken) = (sources.body(false), 0);
    until("nothing more is taken in", async || {
        match sources.push(&mut client, site.address, &refused).await {
            Some(503) => return Ok(true),
            Some(200..=202) => taken += 1,
            _ => {}
        }
        if running.process.ended()?.is_some() {
            Err("it ended below the reserve".into())
        } else {
            Ok(false)
        }
    })
    .await?;
    // Deliveries free room: they go on.
    let held = sources.receipts().len();
    until("what is held is delivered", async || {
        Ok(site.platform.ledger().len() as u64 >= sources.promised())
    })
    .await?;

    // Not a byte left: whatever the gateway does now, it must not promise.
    let mut part = 1 << 20;
    while part >= 4096 {
        match fallocate(&ballast, FallocateFlags::empty(), length, part) {
            Ok(()) => length += part,
            Err(_) => part /= 2,
        }
    }
    for _ in 0..5 {
        let more = sources.body(true);
        if matches!(sources.push(&mut client, site.address, &more).await, Some(200..=202)) {
            return Err("a receipt from a full disk".into());
        }
    }
    let left = free()?;
    std::fs::remove_file(&path)?;
    drop(ballast);
    until("it takes in again", async || {
        running.keep(&site)?;
        let status = sources.push(&mut client, site.address, &refused).await;
        Ok(matches!(status, Some(200..=202)))
    })
    .await?;
    running.process.kill()?;
    site.settle().await?;
    println!(
        "full disk: {held} receipts before, {taken} until it was noticed, {left} bytes left at worst, \
         started again {} times",
        running.starts
    );
    sources.reconcile(&site, &mut sums)?;
    disk.unplug()?;
    Ok(sums)
}
