// Package config answers: what do the words in flags, environment and file mean?
//
// Load reads them once and returns one plain value that nobody changes afterwards. One table
// (keys) defines every setting of gophd: its key, flag, environment variable, type, default and
// help; flags, checks, the starter file and docs/config.md are all made from it, so they cannot
// disagree. Sections of a config file that are not gophd's own are the user's: they reach the
// command as environment, in the very text that the file holds.
//
// Limits, signals and files of variables mean what package world says; the refusals are worded here.
//
// It creates, writes and starts nothing, opens no network connection and looks up no host, user or
// command: whether a folder, a store or a program is there is found out by the room that uses it.
package config
