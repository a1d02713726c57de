//! Tells commands that only read settings from those that write them, so that monitoring does not use up the look-ups.

use std::collections::HashMap;

/// A command that has been looked at so often and has not written is taken for a reader, until it writes.
const LOOKS: u32 = 3;
/// So many commands are remembered.
const COMMANDS_MAX: usize = 256;

/// What is known of commands, by the bytes of their command lines.
#[derive(Default)]
pub struct Commands(HashMap<Vec<u8>, Command>);

#[derive(Default)]
struct Command {
    looks: u32,
    has_written: bool,
}

impl Commands {
    pub fn is_reader(&self, command: &[u8]) -> bool {
        self.0.get(command).is_some_and(|known| known.looks >= LOOKS && !known.has_written)
    }

    /// A process of this command has opened a setting, and was looked at.
    pub fn note_look(&mut self, command: &[u8]) {
        let known = self.known(command);
        known.looks = known.looks.saturating_add(1);
    }

    /// A process of this command has written a setting.
    pub fn note_write(&mut self, command: &[u8]) {
        self.known(command).has_written = true;
    }

    fn known(&mut self, command: &[u8]) -> &mut Command {
        if self.0.len() >= COMMANDS_MAX && !self.0.contains_key(command) {
            self.0.retain(|_, known| known.has_written);
            if self.0.len() >= COMMANDS_MAX {
                self.0.clear();
            }
        }
        self.0.entry(command.to_vec()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_was_examined_three_times_without_a_write_is_a_reader() {
        let mut commands = Commands::default();
        for _ in 0..LOOKS {
            assert!(!commands.is_reader(b"cat"));
            commands.note_look(b"cat");
            commands.note_look(b"sysctl -w");
            commands.note_write(b"sysctl -w");
        }
        assert!(commands.is_reader(b"cat") && !commands.is_reader(b"sysctl -w"));
        commands.note_write(b"cat");
        assert!(!commands.is_reader(b"cat"), "it has written after all");
    }

    #[test]
    fn writers_are_remembered_longest_and_memory_is_bounded() {
        let mut commands = Commands::default();
        commands.note_write(b"sysctl -w");
        for n in 0..1000 {
            (0..LOOKS).for_each(|_| commands.note_look(format!("cat {n}").as_bytes()));
            assert!(commands.0.len() <= COMMANDS_MAX);
        }
        (0..LOOKS).for_each(|_| commands.note_look(b"sysctl -w"));
        assert!(!commands.is_reader(b"sysctl -w"));
        (0..1000).for_each(|n| commands.note_write(format!("sysctl {n}").as_bytes()));
        assert!(commands.0.len() <= COMMANDS_MAX);
    }
}
