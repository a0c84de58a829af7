/* xml.c: see xml.h. */
#include "store/xml.h"

#include <expat.h>

#include "base/buf.h"

#include "base/banned.h"

#define DEPTH_MAX 16
#define NAMESPACE_MARK '\n' /* expat puts it between namespace and local name */

struct walk {
    XML_Parser parser;
    xml_fn fn;
    void *arg;
    struct buf path, text;
    size_t path_at[DEPTH_MAX]; /* length of `path` before the element of this depth */
    size_t depth;
    bool stopped, refused;
};

static void on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct walk *w = arg;
    const char *local = strchr(name, NAMESPACE_MARK);

    (void)attributes;
    if (w->depth == DEPTH_MAX) {
        w->refused = true;
        (void)XML_StopParser(w->parser, XML_FALSE);
        return;
    }
    w->path_at[w->depth++] = w->path.len;
    if (w->path.len)
        buf_byte(&w->path, '/');
    buf_str(&w->path, local ? local + 1 : name);
    w->text.len = 0;
}

static void on_end(void *arg, const XML_Char *name)
{
    struct walk *w = arg;
    const struct xml_element e = {buf_view(&w->path), buf_view(&w->text)};

    (void)name;
    if (!w->fn(w->arg, &e)) {
        w->stopped = true;
        (void)XML_StopParser(w->parser, XML_FALSE);
        return;
    }
    w->path.len = w->path_at[--w->depth];
    w->text.len = 0;
}

static void on_text(void *arg, const XML_Char *s, int len)
{
    struct walk *w = arg;
    buf_put(&w->text, s, (size_t)len);
}

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid, const XML_Char *pubid, int internal)
{
    struct walk *w = arg;

    (void)name;
    (void)sysid;
    (void)pubid;
    (void)internal;
    w->refused = true;
    (void)XML_StopParser(w->parser, XML_FALSE);
}

enum err_code xml_walk(slice document, xml_fn fn, void *arg, struct err *err)
{
    struct walk w = {.parser = XML_ParserCreateNS("UTF-8", NAMESPACE_MARK), .fn = fn, .arg = arg};
    enum err_code rc = ERR_OK;

    ASSERT(w.parser);
    XML_SetUserData(w.parser, &w);
    XML_SetElementHandler(w.parser, on_start, on_end);
    XML_SetCharacterDataHandler(w.parser, on_text);
    XML_SetStartDoctypeDeclHandler(w.parser, on_doctype);
    if (document.len > INT32_MAX)
        rc = err_set(err, ERR_CORRUPT, "XML document of %zu bytes", document.len);
    else if (XML_Parse(w.parser, document.len ? (const char *)document.ptr : "", (int)document.len, 1) == XML_STATUS_OK)
        rc = ERR_OK;
    else if (w.stopped)
        rc = err_set(err, ERR_CANCELLED, "stopped");
    else
        rc = err_set(err, ERR_CORRUPT, "bad XML at byte %lld: %s", (long long)XML_GetCurrentByteIndex(w.parser),
                     w.refused ? "too deep, or with a document type" : XML_ErrorString(XML_GetErrorCode(w.parser)));
    XML_ParserFree(w.parser);
    buf_done(&w.path);
    buf_done(&w.text);
    return rc;
}
