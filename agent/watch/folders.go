package watch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hops bounds a chain of symbolic links, as the kernel does.
const hops = 40

// folders are those in which a change may be one of the paths: for each of
// them the folder that it is in, the one above, which sees that folder
// replaced, and the folder of each symbolic link on the way.
func folders(paths []string) []string {
	seen := map[string]bool{}
	for _, path := range paths {
		end := path
		for range hops {
			link, to := firstLink(end)
			if link == "" {
				break
			}
			seen[filepath.Dir(link)] = true
			end = to
		}
		if info, err := os.Stat(end); err == nil && info.IsDir() {
			seen[end] = true
		}
		dir := there(filepath.Dir(end))
		seen[dir], seen[there(filepath.Dir(dir))] = true, true
	}
	var all []string
	for dir := range seen {
		all = append(all, dir)
	}
	slices.Sort(all)
	return all
}

// firstLink is the first symbolic link on the way to an absolute path, and the
// path with the link followed; "" when there is none.
func firstLink(path string) (link, to string) {
	at := ""
	parts := strings.Split(strings.TrimPrefix(filepath.Clean(path), "/"), "/")
	for i, part := range parts {
		at += "/" + part
		target, err := os.Readlink(at)
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(at), target)
		}
		return at, filepath.Join(append([]string{target}, parts[i+1:]...)...)
	}
	return "", ""
}

// there is dir, or the nearest folder above it that exists.
func there(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
