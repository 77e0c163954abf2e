package config

import (
	"fmt"
	"strings"
)

// Reference returns docs/config.md, made from the table of keys.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(strings.Replace(referenceHead, "{usualPath}", usualPath, 1))
	for _, section := range sections() {
		fmt.Fprintf(&b, "\n### %s\n\n", section)
		b.WriteString("| key | flag | environment | value | default | meaning | example |\n|---|---|---|---|---|---|---|\n")
		for _, k := range keys() {
			if !strings.HasPrefix(k.name, section+".") {
				continue
			}
			fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s | %s | `%s` |\n",
				k.name, k.flags(), k.env(), k.values(), code(k.def), k.help, k.example)
		}
	}
	b.WriteString(referenceTail)
	return []byte(b.String())
}

func (k key) flags() string {
	flag := code(k.flag)
	if k.flag != "" {
		flag = "`--" + strings.TrimSpace(k.flag+" "+k.arg) + "`"
	}
	if k.short != "" {
		flag = "`-" + k.short + "`, " + flag
	}
	return flag
}

// code is text in the type of a program, and nothing when there is none.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

const referenceHead = `# Configuration of gophd

<!-- Made from the table in internal/config/keys.go: go test ./internal/config -run Reference -update -->

Every setting has a key in the config file and an environment variable of the same name; most have a flag. What counts is the
flag, else the environment, else the file, else the default. ` + "`gophd config show`" + ` tells each effective value and where it
came from. An empty environment variable counts as not set.

## The file

` + "`-c FILE`" + ` or ` + "`GOPHD_CONFIG=FILE`" + ` names it, and then it must be there. Otherwise the first of these is read:

1. ` + "`./gophd.yaml`" + `, only when no command is given on the command line (a stray file in a working folder shall not change a job),
2. ` + "`$XDG_CONFIG_HOME/gophd/gophd.yaml`" + ` (` + "`~/.config/gophd/gophd.yaml`" + `),
3. ` + "`/etc/gophd/gophd.yaml`" + `.

The extension says the format: ` + "`.yaml`, `.yml`, `.toml`, `.json` or `.ini`" + `. Two of them in one folder are refused. A file must hold
` + "`config.auto_restart_interval`" + `; without any file the defaults serve. A file has at most 1 MiB of UTF-8 text, and nothing in
it is guessed: an unknown key, a section that looks like a misspelt one of gophd's, a key that is set twice and a value of the
wrong kind are refused with file and line. A dot in a name is the same as a nested section: ` + "`job.interval: 1m`" + ` is
` + "`interval: 1m`" + ` below ` + "`job:`" + `.

YAML: one document, no aliases; a value that ends in a colon is quoted: ` + "`url: \"file:\"`" + `. INI: ` + "`name = value`" + `; a comment begins with # or ; at the start of a line, never behind a value;
one pair of quotes round a value is dropped, a backslash means nothing.

### Values

A *time* is plain seconds (` + "`5`, `0.2`" + `) or a Go duration (` + "`200ms`, `1h30m`" + `), in flags, environment and every format alike.
*yes/no* is true, false, yes, no, on, off, 1 or 0. A *size* is bytes, or a number with K, M, G or T, which are powers of 1024. A *file* may be
relative to the folder in which gophd was started; ` + "`~`" + ` is not replaced. The *command* is executed word by word when it is a list; a text is
a line for ` + "`/bin/sh -c`" + `, in the environment variable too.

A *list* is a list of the format, or one text with commas between the values; its flag may be given several times instead. A
*mapping* is names and values below the key, or a list of ` + "`NAME=VALUE`" + `; in one text, as in the environment, each stands in a line of its
own. A mapping is merged name by name from file, environment and flags; any other value, a list too, is replaced as a whole.

` + "```yaml" + `
job:
  env: {TZ: UTC, LANG: C.UTF-8}
  env_file: [/etc/default/nightly, -/etc/default/nightly.local]
  rlimit: {nofile: "1024:4096"}
  stop_signals: [INT, TERM]
` + "```" + `

## Your own sections

Every other section is yours and reaches the command as environment: ` + "`host`" + ` below ` + "`database:`" + ` becomes ` + "`GOPHD_DATABASE_HOST`" + `,
in upper case, with _ for every character that is no letter or digit. Nested sections are joined by _. The text is the one in the
file: ` + "`0123`, `yes` and `1e3`" + ` stay as they are. A list reaches the command joined by spaces; it is refused when one of its values
is empty or holds a space. A missing value is an empty text. An environment variable of the same name that is set and not empty
wins over the file. Two keys that become the same variable are refused, and so are those that become one of gophd's own.

### The environment of the command

It is gophd's own, without what is meant for gophd; HOME, USER, LOGNAME and SHELL of ` + "`job.user`" + `; your sections; the files of
` + "`job.env_file`" + `, one after the other; ` + "`job.env`" + `; and what gophd tells the run (GOPHD_NAME, GOPHD_RUN, ...). Of two values for one name the
later in this order counts. With ` + "`job.clear_env`" + ` the first is left out, and a command that is given no PATH gets
` + "`{usualPath}`" + `.

The files of ` + "`job.env_file`" + ` are read at start and at HUP, as the user who runs gophd:

` + "```sh" + `
# a comment, if it begins the line; so does ;
KEY=a value, up to the end of the line, less blanks round it # this too
KEY='as it is, blanks and all'
KEY="the same, but \" \\ \$ and \` + "`" + ` are what follows the backslash"
` + "```" + `

Quotes count only when they begin the value, and must then end it. Nothing is expanded, and no value goes over the end of its line.
A name is letters, digits and _, and no digit first; those that gophd sets itself are refused.

### Sections of later versions

The sections jobs, http, notify and history belong to later versions and are refused. gophd's own sections are not passed on.

## Secrets

` + "`gophd config show`" + `, errors and warnings print (hidden) for a password in an address, for what follows password=, token=,
key= and the like, a header such as Authorization: or Cookie:, the word Bearer, curl's -u, a flag whose name promises a secret, and for keys of yours
and variables of ` + "`job.env`" + ` whose name promises a secret (password, secret, token, api_key, dsn, auth, cookie, jwt, private, ...).
What stands in ` + "`job.env_file`" + ` is never shown.
` + "`gophd config get`" + ` prints what it is asked for. Not recognized are flags of one letter (mysql -psecret), and what no such name announces.

## Settings
`

const referenceTail = `
### Rules between them

The name, when none is given, is the config file's base name if ` + "`-c`" + ` named the file or the command is in it; else the command's
base name and six digits of a hash over its path and arguments. A name has no slash, space or control character, no leading dash, and at
most 100 bytes.

With a memcached heartbeat, ttl is in whole seconds, at most 30 days, and 0.99 x ttl must hold 2.15 s + 1.1 x renew + stop_grace + 2 x timeout:
then the command is dead before another host can start it.

` + "`job.output: log`" + ` wants a log file, and with ` + "`--daemon`" + ` ` + "`inherit`" + ` is refused, for output and for stdin: there is no terminal.

` + "`job.keep`" + ` is refused with ` + "`job.once`" + `, ` + "`job.retries`" + ` and a rule of overrun other than run: a service has no ticks. ` + "`overlap`" + ` wants an
interval, and a stdin that runs can share. An exit code stands in one of the three lists only.

A limit of resources is a number in the units of getrlimit(2) or ` + "`unlimited`" + `; one number sets the soft and the hard limit.
` + "`job.memory_max`, `job.cpu_max` and `job.tasks_max`" + ` want a cgroup v2 that is delegated to gophd, as systemd does with ` + "`Delegate=yes`" + `.

The log goes to the file, to systemd's journal (` + "`log.file: \"journald:\"`" + `) or to syslog (` + "`\"syslog:\"`" + `). A tag may follow, as in ` + "`syslog:nightly`" + `: at
most 32 letters, digits and . _ -; without it the tag is gophd. What is about files is refused with a service.

## Folders

| | root | others | set by |
|---|---|---|---|
| runtime | ` + "`/run/gophd`" + ` | ` + "`$XDG_RUNTIME_DIR/gophd`, else `$TMPDIR/gophd-UID` or `/tmp/gophd-UID`" + ` | ` + "`GOPHD_RUNTIME_DIR`" + ` |
| state | ` + "`/var/lib/gophd`" + ` | ` + "`$XDG_STATE_HOME/gophd` (`~/.local/state/gophd`)" + ` | ` + "`GOPHD_STATE_DIR`" + ` |
| log | ` + "`/var/log/gophd`" + ` | the state folder | ` + "`GOPHD_STATE_DIR`" + ` |

In a directory where other users can create files, such as /tmp, gophd uses only what belongs to its own user or to root: log, output, PID file, lock,
record, archive, and the directory itself. A log may also belong to ` + "`log.owner`" + ` and the output to ` + "`job.user`" + `. Everything else, symbolic links included, is
refused with the owner's number, and so is a PID file, lock, record or state that another setting names too. Such a directory is one that is writable for its group or for all, or that belongs to another user.
`
