package memcached

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"gophd/internal/safefile"
)

// maxLogin is the maximum length of a line in memcached's own password file (-Y).
const maxLogin = 256

// ErrContent matches the error of a password file that can be read and has no user and password.
var ErrContent = errors.New("not a user and a password")

type contentError struct{ error }

func (contentError) Is(target error) bool { return target == ErrContent }

// CheckPasswordFile returns why the file at path, an absolute path, has no user and password. The
// error names setting and file, and nothing of the content. It matches ErrContent if the file can
// be read. CheckPasswordFile blocks for as long as the file system does.
func CheckPasswordFile(path string) error {
	_, err := login(path)
	return err
}

// login returns the user and password in the file at path, as the server wants them: with a space
// in between. The file has one line, user:password, as the server's own.
func login(path string) (string, error) {
	text, err := readLine(path)
	if err != nil {
		if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
			err = fmt.Errorf("%w: %s", cause.Err, safefile.Fix(cause, "choose another file"))
		}
		return "", fmt.Errorf("heartbeat.password_file %s: %w", path, err)
	}
	text = strings.TrimPrefix(text, "\ufeff")
	if problem := badLine(text); problem != "" {
		return "", contentError{fmt.Errorf("heartbeat.password_file %s: %s", path, problem)}
	}
	user, password, _ := strings.Cut(text, ":")
	return user + " " + password, nil
}

// badLine returns why a text is not user:password, with the fix, and nothing of the text; "" if it is.
func badLine(text string) string {
	user, password, _ := strings.Cut(text, ":")
	first, rest, _ := strings.Cut(text, "\n")
	blank := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	switch {
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		return "UTF-16 text, as some Windows editors save it: save the file as UTF-8"
	case strings.TrimSpace(user) == "", strings.TrimSpace(password) == "":
		return "not one line user:password: write a line of the server's -Y file"
	case first != text && strings.TrimSpace(first) != "" && strings.TrimSpace(rest) == "":
		return "a blank line follows user:password: remove it"
	case first != text:
		return "more than one line: leave one line user:password"
	case strings.ContainsFunc(text, blank):
		return "a space or control character in user:password: remove it, also at the end of the line"
	}
	return ""
}

// readLine returns the content of the file without the newline at its end.
func readLine(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("not a regular file, and it is read at each new connection: name a file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxLogin+2))
	if err != nil {
		return "", err
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if len(line) > maxLogin {
		return "", contentError{fmt.Errorf("longer than the %d bytes that memcached allows: write one line user:password",
			maxLogin)}
	}
	return line, nil
}

// authenticate sends the user and password in the file at path (doc/protocol.txt,
// "Authentication"). Only a server that asked for a password may get it: any other would store it.
func authenticate(c net.Conn, path string) error {
	text, err := login(path)
	if err != nil {
		return unfit(err.Error())
	}
	if _, err := fmt.Fprintf(c, "set gophd 0 0 %d\r\n%s\r\n", len(text), text); err != nil {
		return err
	}
	answer, err := bufio.NewReader(io.LimitReader(c, maxSettings)).ReadString('\n')
	switch answer = strings.TrimRight(answer, "\r\n"); {
	case answer == "STORED":
		return nil
	case strings.HasPrefix(answer, "CLIENT_ERROR"):
		return unfit(fmt.Sprintf("it rejects the user and password in %s: "+
			"write a line of the server's -Y file to heartbeat.password_file", path))
	case err != nil:
		return err
	}
	return unfit("it is not a memcached: it does not know how to authenticate: check host and port")
}
