package attestfs

import (
	"context"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// directory is the root.
type directory struct {
	gofs.Inode
	fixedEntries
	server *Server
	files  map[string]content
}

// fixedEntries refuses to remove entries; go-fuse would agree by default.
type fixedEntries struct{}

func (fixedEntries) Unlink(context.Context, string) syscall.Errno { return syscall.EACCES }
func (fixedEntries) Rmdir(context.Context, string) syscall.Errno  { return syscall.EACCES }

var (
	_ gofs.NodeOnAdder   = (*directory)(nil)
	_ gofs.NodeUnlinker  = (*directory)(nil)
	_ gofs.NodeRmdirer   = (*directory)(nil)
	_ gofs.NodeGetattrer = (*directory)(nil)
	_ gofs.NodeCreater   = (*keyDirectory)(nil)
	_ gofs.NodeGetattrer = (*keyDirectory)(nil)
	_ gofs.NodeUnlinker  = (*keyDirectory)(nil)
	_ gofs.NodeRmdirer   = (*keyDirectory)(nil)
	_ gofs.NodeOpener    = (*file)(nil)
	_ gofs.NodeReader    = (*file)(nil)
	_ gofs.NodeWriter    = (*file)(nil)
	_ gofs.NodeGetattrer = (*file)(nil)
	_ gofs.NodeSetattrer = (*file)(nil)
)

// OnAdd makes the tree.
func (d *directory) OnAdd(ctx context.Context) {
	for name, c := range d.files {
		d.AddChild(name, d.NewPersistentInode(ctx, newFile(d.server, name, c), gofs.StableAttr{Mode: syscall.S_IFREG}), false)
	}
	keys := &keyDirectory{server: d.server}
	inode := d.NewPersistentInode(ctx, keys, gofs.StableAttr{Mode: syscall.S_IFDIR})
	d.AddChild("keys", inode, false)
	for _, name := range []string{defaultKey, keyMRENCLAVE, keyMRSIGNER} {
		inode.AddChild(name, keys.newKey(ctx, name), false)
	}
}

func (d *directory) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o555
	return 0
}

// keyDirectory is keys/, where files can be made.
type keyDirectory struct {
	gofs.Inode
	fixedEntries
	server *Server
}

func (d *keyDirectory) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o777
	return 0
}

func (d *keyDirectory) Create(ctx context.Context, name string, flags, _ uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	if err := d.server.addKey(name); err != nil {
		return nil, nil, 0, d.server.refuse("keys/"+name, err)
	}
	inode := d.newKey(ctx, name)
	f := inode.Operations().(*file)
	f.attributes(&out.Attr)
	handle, openFlags, errno := f.Open(ctx, flags)
	return inode, handle, openFlags, errno
}

func (d *keyDirectory) newKey(ctx context.Context, name string) *gofs.Inode {
	return d.NewPersistentInode(ctx, newFile(d.server, "keys/"+name, d.server.key(name)), gofs.StableAttr{Mode: syscall.S_IFREG})
}

// file is any of the files.
type file struct {
	gofs.Inode
	server *Server
	name   string
	content
}

func newFile(s *Server, name string, c content) *file {
	return &file{server: s, name: name, content: c}
}

// handle is an open file. It keeps what a read at offset 0 made, so that a reader
// with a small buffer gets one quote and not pieces of several.
type handle struct {
	mu   sync.Mutex
	made []byte
}

func (f *file) Open(_ context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY && f.write == nil {
		return nil, 0, syscall.EACCES
	}
	return new(handle), fuse.FOPEN_DIRECT_IO, 0
}

func (f *file) Read(ctx context.Context, fh gofs.FileHandle, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	h, ok := fh.(*handle)
	if !ok {
		return nil, syscall.EBADF
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if offset == 0 || h.made == nil {
		made, err := f.read(ctx)
		if err != nil {
			return nil, f.server.refuse(f.name, err)
		}
		h.made = made
	}
	if offset >= int64(len(h.made)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, h.made[offset:])]), 0
}

func (f *file) Write(ctx context.Context, _ gofs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	if f.write == nil {
		return 0, syscall.EACCES
	}
	if err := f.write(ctx, data, offset); err != nil {
		return 0, f.server.refuse(f.name, err)
	}
	return uint32(len(data)), 0
}

func (f *file) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.attributes(&out.Attr)
	return 0
}

// Setattr accepts truncation, which shells ask for before they write, and does
// nothing: values have a fixed size. Mode and owner cannot be changed.
func (f *file) Setattr(_ context.Context, _ gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if in.Valid&(fuse.FATTR_MODE|fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		return syscall.EACCES
	}
	if in.Valid&fuse.FATTR_SIZE != 0 && f.write == nil {
		return syscall.EACCES
	}
	f.attributes(&out.Attr)
	return 0
}

func (f *file) attributes(attr *fuse.Attr) {
	attr.Size = uint64(f.size)
	attr.Mode = 0o444
	if f.write != nil {
		attr.Mode = 0o666
	}
}

// refuse logs why and gives EACCES, as Gramine does.
func (s *Server) refuse(name string, err error) syscall.Errno {
	s.log.Warn("attestation file refused", "file", name, "error", err)
	return syscall.EACCES
}
