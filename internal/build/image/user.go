package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/moby/sys/user"
)

var numericUser = regexp.MustCompile(`^[0-9]+:[0-9]+$`)

// maxAccounts bounds /etc/passwd and /etc/group in bytes.
const maxAccounts = 4 << 20

// ResolveUser gives "uid:gid" for a user as images and enclave.yaml name one:
// "uid", "uid:gid", "name", "name:group"; "" is 0:0. Unless both are numbers it
// looks names up in the image's /etc/passwd and /etc/group, and for that reads
// and verifies its layers.
func (i *Image) ResolveUser(ctx context.Context, spec string) (string, error) {
	if spec == "" {
		return "0:0", nil
	}
	if numericUser.MatchString(spec) {
		return spec, nil
	}
	passwd, group, err := i.accounts(ctx)
	if err != nil {
		return "", fmt.Errorf("look up user %q: %w", spec, err)
	}
	u, err := user.GetExecUser(spec, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return "", fmt.Errorf("look up user %q in image %s: %w", spec, i.reference, err)
	}
	return fmt.Sprintf("%d:%d", u.Uid, u.Gid), nil
}

// accounts gives the image's /etc/passwd and /etc/group, as the highest layer
// that has or removes them says.
func (i *Image) accounts(ctx context.Context) (passwd, group []byte, err error) {
	files := map[string][]byte{}
	err = i.eachLayer(ctx, nil, func(r io.Reader) error {
		removed, added := map[string]bool{}, map[string][]byte{}
		archive := tar.NewReader(r)
		for {
			h, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
			switch name {
			case "etc/passwd", "etc/group":
				if h.Typeflag != tar.TypeReg {
					return fmt.Errorf("/%s is not a regular file: name the user by number", name)
				}
				if added[name], err = readBounded("/"+name, archive, maxAccounts); err != nil {
					return err
				}
			case ".wh.etc", "etc/.wh..wh..opq", ".wh..wh..opq":
				removed["etc/passwd"], removed["etc/group"] = true, true
			case "etc/.wh.passwd":
				removed["etc/passwd"] = true
			case "etc/.wh.group":
				removed["etc/group"] = true
			}
		}
		for name := range removed {
			delete(files, name)
		}
		for name, content := range added {
			files[name] = content
		}
		return nil
	})
	return files["etc/passwd"], files["etc/group"], err
}
