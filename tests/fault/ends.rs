//! SIGKILL and power cuts at random moments of a busy gateway, life after life on the same disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use xinqiao_tests::Result;

use crate::books::{Sources, Sums};
use crate::calls::Shim;
use crate::disk::{Disk, Image, Leaves};
use crate::random::Random;
use crate::site::{Process, Site, listens, until};

/// Lives on one disk; then its books are balanced and a new site begins.
const ERA: u64 = 20;

/// So many SIGKILLs.
pub(crate) async fn kills(count: u64, random: &mut Random) -> Result<Sums> {
    let (mut sums, mut left) = (Sums::default(), count);
    while left > 0 {
        let lives = left.min(ERA);
        left -= lives;
        let site = Site::new().await?;
        site.furnish()?;
        let (sources, pushing) = begin(&site);
        for life in 0..lives {
            let since = sources.receipts().len();
            let mut process = live(&site, &sources, life, random).await?;
            process.kill()?;
            sources.look(&site, since, &mut sums)?;
        }
        finish(&site, &sources, pushing).await?;
        sources.reconcile(&site, &mut sums)?;
        println!("{} of {count} kills: {sums}", count - left);
    }
    Ok(sums)
}

/// So many power cuts; after each every kind of what a cut can leave is looked through with `all`,
/// else one.
pub(crate) async fn cuts(count: u64, all: bool, random: &mut Random) -> Result<Sums> {
    let (mut sums, mut left) = (Sums::default(), count);
    let (mut images, mut unflushed) = (BTreeMap::<Leaves, u64>::new(), 0_usize);
    let mut stopped = 0;
    while left > 0 {
        let lives = left.min(ERA);
        left -= lives;
        let site = Site::new().await?;
        let file = site.world.path().join("disk.img");
        let mut disk = Disk::plug_in(Image::ext4(site.world.path())?, &file, &site.disk())?;
        site.furnish()?;
        let (sources, pushing) = begin(&site);
        for life in 0..lives {
            let since = sources.receipts().len();
            let mut process = live(&site, &sources, life, random).await?;
            disk.cut();
            if random.below(3) == 0 {
                // Somebody pushes all the time, so it comes to know: it must not go on.
                until("the gateway ends by itself", async || Ok(process.ended()?.is_some()))
                    .await?;
                stopped += 1;
            }
            process.end()?;
            let wreck = disk.unplug()?;
            unflushed += usize::from(wreck.unflushed() > 0);
            let goes_on = Leaves::EACH[usize::try_from(random.below(4))?];
            for leaves in Leaves::EACH.into_iter().filter(|it| all && *it != goes_on) {
                let image = wreck.image(leaves, random);
                let disk = Disk::plug_in(image, &file, &site.disk())?;
                sources.look(&site, since, &mut sums)?;
                disk.unplug()?;
                *images.entry(leaves).or_default() += 1;
            }
            disk = Disk::plug_in(wreck.image(goes_on, random), &file, &site.disk())?;
            sources.look(&site, since, &mut sums)?;
            *images.entry(goes_on).or_default() += 1;
            println!(
                "   cut {life}: {} writes, {} flushes, {} KiB not flushed, goes on with {goes_on:?}",
                wreck.writes,
                wreck.flushes,
                wreck.unflushed() >> 10
            );
        }
        finish(&site, &sources, pushing).await?;
        sources.reconcile(&site, &mut sums)?;
        disk.unplug()?;
        println!(
            "{} of {count} cuts, {unflushed} with writes not flushed, {stopped} seen by the gateway, \
             images {images:?}: {sums}",
            count - left
        );
    }
    Ok(sums)
}

/// Whether this would see a gateway that does not sync: one that is made to must lose what it has
/// promised.
pub(crate) async fn liar(random: &mut Random) -> Result<Sums> {
    let (site, sources, mut seen) = (Site::new().await?, Sources::default(), Sums::default());
    let file = site.world.path().join("disk.img");
    let disk = Disk::plug_in(Image::ext4(site.world.path())?, &file, &site.disk())?;
    site.furnish()?;
    let shim = Shim::build()?;
    let lies = shim.environment(&site, &[("FAULT_LIES", "1".to_owned())]);
    let mut process = Process::start(&site, "log", &lies)?;
    let mut client = None;
    until("receipts", async || {
        sources.push(&mut client, site.address, &sources.body(false)).await;
        Ok(sources.receipts().len() >= 20)
    })
    .await?;
    disk.cut();
    process.end()?;
    let image = disk.unplug()?.image(Leaves::Nothing, random);
    let disk = Disk::plug_in(image, &file, &site.disk())?;
    println!("a gateway that does not sync; what follows is meant to be lost:");
    let looked = sources.look(&site, 0, &mut seen);
    disk.unplug()?;
    println!("that was {} of {} receipts, {looked:?}", seen.lost, sources.receipts().len());
    let caught = looked.is_err() || !seen.hold();
    Ok(Sums { checks: 1, unsound: u64::from(!caught), ..Sums::default() })
}

type Pushing = Vec<tokio::task::JoinHandle<()>>;

fn begin(site: &Site) -> (Arc<Sources>, Pushing) {
    let sources = Arc::new(Sources::default());
    let push = |_| tokio::spawn(Arc::clone(&sources).push_all(site.address));
    let pushing = (0..3).map(push).collect();
    (sources, pushing)
}

/// A gateway in the midst of its work; sometimes only just started.
async fn live(site: &Site, sources: &Sources, life: u64, random: &mut Random) -> Result<Process> {
    let mut process = Process::start(site, &format!("log.{life}"), &[])?;
    sources.put(site)?;
    sources.put(site)?;
    let mut most = 250;
    if random.below(4) > 0 {
        until("the gateway listens", async || {
            if process.ended()?.is_some() {
                return Err(format!("it does not start: {}", process.told()?).into());
            }
            Ok(listens(site.address))
        })
        .await?;
        most = 900;
    }
    tokio::time::sleep(Duration::from_millis(random.below(most))).await;
    Ok(process)
}

/// Lets every push have its receipt and everything be settled.
async fn finish(site: &Site, sources: &Sources, pushing: Pushing) -> Result<()> {
    sources.stop();
    let mut process = Process::start(site, "log.last", &[])?;
    for push in pushing {
        tokio::time::timeout(Duration::from_secs(60), push).await??;
    }
    let files = sources.files();
    until("every file is taken", async || {
        Ok(files.iter().all(|(name, _)| site.lies(name).is_ok_and(|lies| !lies)))
    })
    .await?;
    process.kill()?;
    site.settle().await
}
