//! Letting go of files that were taken.

use xinqiao_core::fault::Blame;

use super::{After, Failure, Place, Trouble, Watch, fault, of_file};
use crate::wire::files::Listed;

impl<P: Place> Watch<P> {
    /// What `after` asks for, long after the receipt. A file that changed since is a new one and
    /// stays; it is taken again.
    pub(super) async fn dispose(
        &self,
        file: &Listed,
        text: &str,
        companions: Vec<Vec<u8>>,
    ) -> Result<(), Failure> {
        let act = match self.habits.after {
            After::Leave => return Ok(()),
            After::Move => "移走",
            After::Delete => "删除",
        };
        let failed = |why| {
            let text = format!("文件 {text} 已接收,但无法{act}({why})");
            Failure::File(fault("source.file-not-moved", Blame::Operator, text))
        };
        match self.place.stat(file).await {
            Ok(stamp) if stamp == file.stamp => {}
            Ok(_) | Err(Trouble::Gone | Trouble::Changed) => return Ok(()),
            Err(Trouble::Place(fault)) => return Err(Failure::Place(fault)),
            Err(Trouble::Broken(fault)) => return Err(Failure::Broken(of_file(text, fault))),
            Err(Trouble::File(why)) => return Err(failed(why)),
        }
        let own = (file.name.clone(), Some(file.stamp.size));
        let files = [own].into_iter().chain(companions.into_iter().map(|name| (name, None)));
        for (name, size) in files {
            let done = match self.habits.after {
                After::Move => self.place.move_aside(&name, size).await,
                After::Leave | After::Delete => self.place.delete(&name).await,
            };
            match done {
                Ok(()) => {}
                // The companion may have gone by itself.
                Err(Trouble::Gone) if size.is_none() => {}
                // Put back: it is taken again.
                Err(Trouble::Changed) => return Ok(()),
                Err(Trouble::Place(fault)) => return Err(Failure::Place(fault)),
                Err(Trouble::Broken(fault)) => return Err(Failure::Broken(of_file(text, fault))),
                Err(Trouble::Gone) => return Err(failed("没有这个文件或目录".to_owned())),
                Err(Trouble::File(why)) => return Err(failed(why)),
            }
        }
        Ok(())
    }
}
