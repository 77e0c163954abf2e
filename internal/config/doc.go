// Package config answers: what are the settings from flags, environment and config file?
//
// Load reads them once and returns one plain value that does not change afterwards. One table
// (keys) defines every setting: its key, flag, environment variable, type, default and help. The
// flags, the checks, the starter file and docs/config.md are all generated from it, so they cannot
// disagree. Sections of a config file that are not gophd's own belong to the user. They reach the
// command as environment variables, with exactly the text of the file.
//
// A file may include others, and have many jobs: include.go and many.go. viper merges the settings
// of the daemon and the defaults of the jobs. The entries of jobs: do not go through it, because it
// turns names to lower case and splits them at dots. Compare (changes.go) finds the jobs that a
// reload adds, removes or changes.
//
// Package credentials parses limits, signals and environment files. This package words the errors.
//
// It creates, writes and starts nothing, opens no network connection and looks up no host, user or
// command. The package that uses a directory, a store or a program checks that it exists.
package config
