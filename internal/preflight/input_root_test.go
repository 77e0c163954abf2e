//go:build root

package preflight

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"gophd/internal/credentials"
)

// TestRootInputOfAnotherUserIsOpenedSafely checks which files a command of another user than gophd
// can get as its input, and that Check says the same.
func TestRootInputOfAnotherUserIsOpenedSafely(t *testing.T) {
	const owner, third = 65534, 65533
	dir, theirs := t.TempDir(), t.TempDir()
	file := func(path string, uid int) {
		if err := errors.Join(os.WriteFile(path, []byte(path), 0o600), os.Chown(path, uid, -1)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, path string, uid int) {
		if err := errors.Join(os.Symlink(target, path), os.Lchown(path, uid, -1)); err != nil {
			t.Fatal(err)
		}
	}
	file(dir+"/secret", 0)
	file(dir+"/third", third)
	file(theirs+"/own", owner)
	file(theirs+"/of root", 0)
	file(theirs+"/third", third)
	link(dir+"/secret", theirs+"/link", owner)
	link(dir+"/secret", theirs+"/link of root", 0)
	link(theirs+"/link", dir+"/link to a link", 0)
	link(theirs+"/own", dir+"/link to own", 0)
	if err := os.Chown(theirs, owner, -1); err != nil {
		t.Fatal(err)
	}
	user := &credentials.Credentials{User: &credentials.User{Name: "nobody", UID: owner, GID: owner}}
	for path, want := range map[string]string{ // in the error; "" if it is opened
		dir + "/secret": "", dir + "/third": "", theirs + "/own": "", theirs + "/of root": "",
		theirs + "/link of root": "", dir + "/link to own": "",
		theirs + "/third":       "belongs to user 65533",
		theirs + "/link":        "is a symbolic link of user 65534",
		dir + "/link to a link": "is a symbolic link of user 65534",
	} {
		for _, w := range []*credentials.Credentials{user, nil, {}} {
			f, err := OpenInput(path, w)
			if err == nil {
				text, readErr := io.ReadAll(f)
				if len(text) == 0 || f.Close() != nil {
					t.Errorf("%s: read %q, %v", path, text, readErr)
				}
			}
			want := want
			if w != user {
				want = ""
			}
			for _, err := range []error{err, paths{}.input(path, w)} {
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s with user %v: %v; want %q", path, w.UIDs(), err, want)
				}
			}
		}
	}
}
