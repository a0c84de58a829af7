/* sim_disk.h: the disk of one simulated node: what os.h I1 and I2 allow to happen, happens.
 *
 * Files keep the bytes that reads see, the bytes that are on the platter, and the writes between the two. A sync moves the
 * writes over. A power cut resolves them by the seed: all lost, all kept, the first n kept, or any subset of their 512-byte
 * sectors, in any order. Names are the same: a directory operation that no sync_dir() covered is kept or lost by itself.
 * A failed sync leaves each of its writes on the platter or nowhere, and no later sync will bring them.
 * THREADS  one. */
#pragma once
#include "sim/world.h"

struct sim_disk;
struct sim_disk_faults { /* in permille of operations */
    unsigned sync_fails, write_fails, slow_sync;
    uint64_t bytes_max; /* then ERR_LIMIT; 0: endless */
};
struct sim_disk *sim_disk_new(struct world *w);
void sim_disk_power_cut(struct sim_disk *d); /* and every open file and lock is gone */
void sim_disk_kill(struct sim_disk *d);      /* only open files and locks are gone */
struct sim_disk_faults *sim_disk_faults(struct sim_disk *d);
/* A copy of the platter, as of a machine that is off: what no sync covered is not on it. */
struct sim_disk *sim_disk_clone(const struct sim_disk *d);
void sim_disk_detach(struct sim_disk *d); /* whoever has it open gets ERR_IO from now on: it moves to another node */

/* The os of one process on a node: made at each start of the node, on the disk that the node has then. */
struct os *sim_os_new(struct sim_node *n);
/* A file without a name and without a disk under it: an upload on its way to the store. */
struct os_file *sim_file_anon(struct sim_node *n);
slice sim_file_bytes(const struct os_file *f);
/* The file that os.fd() was asked for last: for what stands in the place of a library that writes through a descriptor. */
struct os_file *sim_file_of_fd(int fd);
void sim_file_anon_free(struct os_file *f);

/* ---- between sim_disk.c and sim_os.c; no call here waits or fails by itself */
struct disk_op { /* a write or a change of size that is not on the platter */
    uint64_t offset, len;
    uint8_t *data; /* NULL: the size becomes `offset` */
};
struct disk_entry {
    char *name;
    struct sim_inode *inode;
};
struct disk_dir {
    struct disk_entry *entries;
    size_t count, cap;
};
struct disk_bytes {
    uint8_t *ptr;
    size_t len, cap;
};
struct sim_inode {
    bool is_dir;
    struct disk_dir now, platter_dir; /* is_dir */
    struct disk_bytes seen, platter;  /* a file */
    struct disk_op *ops;
    size_t ops_count, ops_cap;
    uint64_t ops_gone; /* how many were moved over or lost before ops[0] */
    unsigned links, opens;
    const void *locked_by; /* flock: the os_file */
    int64_t mtime_us;
};
struct sim_disk {
    struct world *world;
    struct sim_inode *root;
    struct sim_inode **inodes;
    size_t inodes_count, inodes_cap;
    struct disk_name_op *name_ops;
    size_t name_ops_count, name_ops_cap;
    struct sim_disk_faults faults;
    uint64_t bytes_used;
    unsigned attached; /* counts moves */
};
struct sim_inode *disk_inode_new(struct sim_disk *d, bool is_dir);
struct sim_inode *disk_find(struct sim_disk *d, const char *path); /* NULL: not there */
/* The directory a path is in, and its last part in *name; NULL: not there. */
struct sim_inode *disk_parent(struct sim_disk *d, const char *path, const char **name);
struct sim_inode *disk_dir_get(const struct disk_dir *dir, const char *name);
void disk_name_add(struct sim_disk *d, struct sim_inode *dir, const char *name, struct sim_inode *inode);
void disk_name_del(struct sim_disk *d, struct sim_inode *dir, const char *name);
void disk_name_move(struct sim_disk *d, struct sim_inode *from_dir, const char *from, struct sim_inode *to_dir,
                    const char *to);
void disk_names_sync(struct sim_disk *d, const struct sim_inode *dir);
bool disk_has_room(const struct sim_disk *d, const struct sim_inode *f, uint64_t end);
void disk_write(struct sim_disk *d, struct sim_inode *f, const void *p, size_t len, uint64_t offset);
void disk_resize(struct sim_disk *d, struct sim_inode *f, uint64_t size);
uint64_t disk_sync_mark(const struct sim_inode *f);                            /* all writes so far */
void disk_sync(struct sim_inode *f, uint64_t mark);                            /* they are on the platter */
void disk_sync_failed(struct sim_disk *d, struct sim_inode *f, uint64_t mark); /* or some are, some never will */
