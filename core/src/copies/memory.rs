//! The files of a copy in memory, for tests and for the simulator.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::api::{ChunkData, ChunkHash, CopyAnswer, CopyCall, FileShape, Unneeded};
use crate::engine::memory::Memory;
use crate::engine::{Engine as _, Fault, Note, Position};
use crate::ids::Generation;
use crate::shard::StageId;

/// All that lies on one disk of one shard.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    /// The copies in their places. The one that the store names is the live one.
    pub generations: BTreeMap<Generation, Memory>,
    /// What has been received of another one.
    pub incoming: Option<Vec<u8>>,
    /// Files that were handed to the node.
    pub uploads: BTreeMap<u64, Vec<u8>>,
    /// What has been received of a file that is to be staged, and by which transfer.
    pub staging: Option<(u64, Vec<u8>)>,
    /// Files that wait for the entry that names them.
    pub staged: BTreeMap<StageId, Memory>,
    /// Snapshots for others.
    pub exports: BTreeMap<u64, Vec<u8>>,
    /// What was put away, the oldest first.
    pub backups: Vec<((String, String), Memory)>,
    /// The next call but [`CopyCall::Tidy`] and [`CopyCall::EndExport`] fails with this.
    pub fail: Option<Fault>,
    shape: Option<FileShape>,
}

impl MemoryFiles {
    /// The process has ended: its snapshots for others are gone with the next start.
    pub fn kill(&mut self) {
        self.exports.clear();
        self.uploads.clear();
        self.fail = None;
        self.generations.values_mut().for_each(Memory::kill);
    }

    /// Makes or opens a copy, as [`crate::shard::CallKind::Open`] says.
    ///
    /// # Errors
    /// [`Fault::Missing`].
    pub fn open(&mut self, generation: Generation, create: bool) -> Result<&mut Memory, Fault> {
        if create {
            self.generations.insert(generation, Memory::default());
        }
        let found = self.generations.get_mut(&generation);
        let engine = found.ok_or_else(|| Fault::Missing(format!("generation {generation}")))?;
        engine.kill();
        Ok(engine)
    }

    /// Carries out a call.
    pub fn carry_out(&mut self, call: CopyCall) -> Option<CopyAnswer> {
        match call {
            CopyCall::Export { export, live } => Some(self.export(export, live)),
            CopyCall::ExportUpload { export, upload } => Some(self.export_upload(export, upload)),
            CopyCall::Read { export, at, len, known, pack: _ } => {
                Some(self.read(export, (at, len), known))
            }
            CopyCall::EndExport { export } => {
                self.exports.remove(&export);
                None
            }
            CopyCall::Receive { transfer, shape, stage } => {
                if let Some(fault) = self.fail.take() {
                    return Some(CopyAnswer::ReceiveFailed { transfer, fault });
                }
                if stage.is_some() {
                    self.staging = Some((transfer, Vec::new()));
                    return Some(CopyAnswer::Receiving { transfer, known: Vec::new() });
                }
                self.shape = Some(shape);
                let held = self.incoming.get_or_insert_default();
                held.truncate(usize::try_from(shape.bytes).unwrap_or(usize::MAX));
                let known = held.chunks_exact(shape.chunk as usize).map(hash).collect();
                Some(CopyAnswer::Receiving { transfer, known })
            }
            CopyCall::Write { transfer, at, len, hash, data } => {
                Some(match self.write(transfer, (at, len), hash, data) {
                    Ok(()) => CopyAnswer::Written { transfer, at },
                    Err(fault) => CopyAnswer::ReceiveFailed { transfer, fault },
                })
            }
            CopyCall::Finish { transfer, bytes, at, generation } => {
                Some(match self.finish(bytes, at, generation) {
                    Ok(()) => CopyAnswer::Finished { transfer },
                    Err(fault) => CopyAnswer::ReceiveFailed { transfer, fault },
                })
            }
            CopyCall::FinishStage { transfer, bytes, stage } => {
                Some(match self.finish_stage(transfer, bytes, stage) {
                    Ok(()) => CopyAnswer::Finished { transfer },
                    Err(fault) => CopyAnswer::ReceiveFailed { transfer, fault },
                })
            }
            CopyCall::StageOwn { stage, upload } => {
                let held = self.uploads.get(&upload).cloned();
                let held = held.ok_or_else(|| Fault::Missing(format!("upload {upload}")));
                let result = held.and_then(|held| self.stage(stage, &held));
                Some(CopyAnswer::Staged { stage, result })
            }
            CopyCall::Place { stage, at, notes, generation } => {
                let result = self.place(stage, (at, &notes), generation);
                Some(CopyAnswer::Placed { stage, result })
            }
            // Where another node's files are only the world knows that runs it.
            CopyCall::Import { origin, .. } => {
                let result = Err(Fault::Missing(format!("what {} held", origin.node.short())));
                Some(CopyAnswer::Imported { result })
            }
            CopyCall::Unstage(which) => {
                self.staged.retain(|stage, _| match which {
                    Unneeded::One(one) => *stage != one,
                    Unneeded::Before(term) => stage.term >= term,
                });
                None
            }
            CopyCall::Tidy { live, receiving, name } => {
                self.tidy(live, receiving, &name);
                None
            }
        }
    }

    /// Takes what another node held as a copy at this position.
    pub fn import(&mut self, held: &Memory, (at, notes): (Position, &[Note]), to: Generation) {
        self.generations.insert(to, held.placed(at, notes));
    }

    fn export(&mut self, export: u64, live: Generation) -> CopyAnswer {
        let fault = self.fail.take();
        match (fault, self.generations.get(&live)) {
            (None, Some(engine)) => {
                let file = engine.to_file();
                let (at, bytes) = (engine.position(), file.len() as u64);
                self.exports.insert(export, file);
                CopyAnswer::Exported { export, at, bytes }
            }
            (fault, _) => {
                let fault = fault.unwrap_or_else(|| Fault::Missing(format!("generation {live}")));
                CopyAnswer::ExportFailed { export, fault }
            }
        }
    }

    fn export_upload(&mut self, export: u64, upload: u64) -> CopyAnswer {
        let fault = self.fail.take();
        match (fault, self.uploads.get(&upload)) {
            (None, Some(file)) => {
                let (at, bytes) = (Position::default(), file.len() as u64);
                self.exports.insert(export, file.clone());
                CopyAnswer::Exported { export, at, bytes }
            }
            (fault, _) => {
                let fault = fault.unwrap_or_else(|| Fault::Missing(format!("upload {upload}")));
                CopyAnswer::ExportFailed { export, fault }
            }
        }
    }

    fn finish_stage(&mut self, transfer: u64, bytes: u64, stage: StageId) -> Result<(), Fault> {
        if let Some(fault) = self.fail.take() {
            return Err(fault);
        }
        let held =
            self.staging.take().filter(|(of, held)| *of == transfer && held.len() as u64 == bytes);
        let (_, held) = held.ok_or_else(|| Fault::Corrupt("it is not whole".to_owned()))?;
        self.stage(stage, &held)
    }

    fn stage(&mut self, stage: StageId, file: &[u8]) -> Result<(), Fault> {
        let made = Memory::from_file(file);
        let made = made.ok_or_else(|| Fault::Corrupt("it is no database".to_owned()))?;
        self.staged.insert(stage, made);
        Ok(())
    }

    fn place(
        &mut self,
        stage: StageId,
        (at, notes): (Position, &[Note]),
        to: Generation,
    ) -> Result<(), Fault> {
        if let Some(fault) = self.fail.take() {
            return Err(fault);
        }
        let staged = self.staged.get(&stage);
        let staged = staged.ok_or_else(|| Fault::Missing(format!("stage {stage}")))?;
        self.generations.insert(to, staged.placed(at, notes));
        Ok(())
    }

    fn read(&mut self, export: u64, place: (u64, u32), known: Option<ChunkHash>) -> CopyAnswer {
        let fault = self.fail.take();
        let chunk = self.exports.get(&export).and_then(|file| file.get(range(place)));
        match (fault, chunk) {
            (None, Some(chunk)) => {
                let hash = hash(chunk);
                let data = match known == Some(hash) {
                    true => ChunkData::Same,
                    false => ChunkData::Plain(Bytes::copy_from_slice(chunk)),
                };
                CopyAnswer::Read { export, hash, data }
            }
            (fault, _) => {
                let fault = fault.unwrap_or_else(|| Fault::Missing("the snapshot".to_owned()));
                CopyAnswer::ExportFailed { export, fault }
            }
        }
    }

    fn write(
        &mut self,
        transfer: u64,
        place: (u64, u32),
        is: ChunkHash,
        data: ChunkData,
    ) -> Result<(), Fault> {
        if let Some(fault) = self.fail.take() {
            return Err(fault);
        }
        let (ChunkData::Plain(bytes) | ChunkData::Packed(bytes)) = data else {
            return Err(Fault::Corrupt("there is no content".to_owned()));
        };
        if hash(&bytes) != is || bytes.len() != place.1 as usize {
            return Err(Fault::Corrupt("the chunk is not what it was".to_owned()));
        }
        let held = match &mut self.staging {
            Some((of, held)) if *of == transfer => held,
            _ => self.incoming.get_or_insert_default(),
        };
        let end = range(place).end;
        if held.len() < end {
            held.resize(end, 0);
        }
        held[range(place)].copy_from_slice(&bytes);
        Ok(())
    }

    fn finish(&mut self, bytes: u64, at: Position, to: Generation) -> Result<(), Fault> {
        if let Some(fault) = self.fail.take() {
            return Err(fault);
        }
        let held = self.incoming.take().unwrap_or_default();
        let made = Memory::from_file(&held).filter(|_| held.len() as u64 == bytes);
        let made = made.filter(|made| made.position() == at);
        let made = made.ok_or_else(|| Fault::Corrupt("what came is no copy".to_owned()))?;
        self.generations.insert(to, made);
        Ok(())
    }

    fn tidy(&mut self, live: Option<Generation>, receiving: bool, name: &(String, String)) {
        if !receiving {
            self.incoming = None;
        }
        if live.is_none() {
            self.staged.clear();
        }
        for (generation, engine) in std::mem::take(&mut self.generations) {
            match Some(generation) == live {
                true => {
                    self.generations.insert(generation, engine);
                }
                false => self.backups.push((name.clone(), engine)),
            }
        }
    }
}

fn range((at, len): (u64, u32)) -> std::ops::Range<usize> {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    at..at.saturating_add(len as usize)
}

/// FNV-1a over the width of the real hash, each lane with an offset of its own.
fn hash(chunk: &[u8]) -> ChunkHash {
    let mut all = [0; 32];
    for (lane, part) in (0_u64..).zip(all.chunks_exact_mut(8)) {
        let start = 0xcbf2_9ce4_8422_2325 ^ lane.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = chunk
            .iter()
            .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        part.copy_from_slice(&word.to_le_bytes());
    }
    all
}
