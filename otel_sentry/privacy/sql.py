"""Statements without their values: SQL, JSON queries, Redis commands. One pass each, linear in the text."""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

import re

MAX_STATEMENT = 64 * 1024
"""Characters looked at; what is beyond is cut. A literal that the cut opens is taken to reach to the end."""

_MAX_CACHED = 512
_MAX_CACHED_LENGTH = 4096
_cache: dict[tuple[str, bool], str] = {}

# A standard literal has no backslash escapes, MySQL's has. Where the dialect is not known, a quote after a
# backslash is ambiguous, and all that follows is taken for the literal (fail closed).
_STANDARD_STRINGS = r"""
      [eE]'[^'\\]*(?:(?:''|\\.)[^'\\]*)*(?:'|\\?\Z)
    | (?:[nNbBxX]|[uU]&)?'[^'\\]*(?:(?:''|\\(?!'))[^'\\]*)*(?:'|\\'.*|\Z)
    | \$(?P<tag>(?:[A-Za-z_]\w{0,62})?)\$.*?(?:\$(?P=tag)\$|\Z)
"""
_MYSQL_STRINGS = r"""
      [nNbBxX]?'[^'\\]*(?:(?:''|\\.)[^'\\]*)*(?:'|\\?\Z)
    | "[^"\\]*(?:(?:""|\\.)[^"\\]*)*(?:"|\\?\Z)
"""
_PIECES = r"""
  (?P<comment> /\*.*?(?:\*/|\Z) | --[^\n]* )
| (?P<literal> STRINGS
    | (?<![\w$@:%?])(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?\w*|\.\d+\w*)
  )
| (?P<quoted> "[^"]*(?:""[^"]*)*(?:"|\Z) | `[^`]*(?:`|\Z) )
"""
_FLAGS = re.DOTALL | re.VERBOSE
_SQL = re.compile(_PIECES.replace("STRINGS", _STANDARD_STRINGS), _FLAGS)
_MYSQL = re.compile(_PIECES.replace("STRINGS", _MYSQL_STRINGS).replace(r"| --[^\n]*", r"| (?:--|\#)[^\n]*"), _FLAGS)
_IDENTIFIER = re.compile(r'(["`])[\w .$:#/-]{0,128}\1\Z')
_PLACEHOLDER = r"(?:\?|%s|\$\d{1,5}|:\w{1,32}|%\(\w{1,64}\)s)"
_IN_LIST = re.compile(rf"\b(IN\s{{0,8}}\()\s*({_PLACEHOLDER})(?:\s*,\s*{_PLACEHOLDER})+\s*\)", re.IGNORECASE)
_ROWS = re.compile(r"\b(VALUES\s{0,8}\([^()]*\))(?:\s*,\s*\([^()]*\))+", re.IGNORECASE)
_SPACES = re.compile(r"[ \t]{2,}")
_JSON_VALUE = re.compile(
    r""""[^"\\]*(?:\\.[^"\\]*)*(?:"(?P<key>\s{0,8}:)?|\\?\Z)"""
    r"""|'[^'\\]*(?:\\.[^'\\]*)*(?:'(?P<key2>\s{0,8}:)?|\\?\Z)"""
    r"""|(?<![\w$.])-?\d[\w.+]*""",
    re.DOTALL,
)


def scrub_sql(text: str | bytes, *, mysql: bool = False) -> str:
    """The statement with every literal as `?`, without comments; placeholders, identifiers and keywords stay.

    `mysql=True` reads `"..."` as a string too, and backslash escapes. Bytes are decoded (psycopg2's
    `execute_values` gives them, values included).
    """
    if isinstance(text, bytes):
        text = text[:MAX_STATEMENT].decode("utf-8", "replace")
    known = _cache.get((text, mysql))
    if known is not None:
        return known
    result = _scrub(text[:MAX_STATEMENT], mysql)
    if len(text) <= _MAX_CACHED_LENGTH:
        if len(_cache) >= _MAX_CACHED:
            _cache.clear()
        _cache[(text, mysql)] = result
    return result


def _scrub(text: str, mysql: bool) -> str:
    text = (_MYSQL if mysql else _SQL).sub(_piece, text).strip()
    if "," in text:
        text = _IN_LIST.sub(r"\1\2)", text)
        text = _ROWS.sub(r"\1", text)
    return _SPACES.sub(" ", text)


def _piece(match: re.Match[str]) -> str:
    if match["quoted"] is not None:
        # Some write strings in double quotes: what does not look like an identifier is one of them.
        return match[0] if _IDENTIFIER.match(match[0]) else "?"
    return " " if match["comment"] is not None else "?"


def scrub_json_query(text: str | bytes) -> str:
    """A MongoDB or Elasticsearch query with its keys, and `?` for every value."""
    if isinstance(text, bytes):
        text = text[:MAX_STATEMENT].decode("utf-8", "replace")
    return _JSON_VALUE.sub(lambda m: m[0] if m["key"] or m["key2"] else "?", text[:MAX_STATEMENT])


_COMMANDS = frozenset(
    """
    APPEND ASKING AUTH BGREWRITEAOF BGSAVE BITCOUNT BITFIELD BITOP BITPOS BLMOVE BLMPOP BLPOP BRPOP
    BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN COPY DBSIZE DECR DECRBY DEL DISCARD DUMP ECHO EVAL EVALSHA EVAL_RO
    EVALSHA_RO EXEC EXISTS EXPIRE EXPIREAT EXPIRETIME FCALL FLUSHALL FLUSHDB GEOADD GEODIST GEOHASH GEOPOS
    GEORADIUS GEOSEARCH GEOSEARCHSTORE GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HELLO HEXISTS HGET
    HGETALL HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HRANDFIELD HSCAN HSET HSETNX HSTRLEN HVALS INCR
    INCRBY INCRBYFLOAT INFO KEYS LASTSAVE LCS LINDEX LINSERT LLEN LMOVE LMPOP LPOP LPOS LPUSH LPUSHX LRANGE
    LREM LSET LTRIM MGET MIGRATE MONITOR MOVE MSET MSETNX MULTI PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PFADD
    PFCOUNT PFMERGE PING PIPELINE PSETEX PSUBSCRIBE PTTL PUBLISH PUNSUBSCRIBE QUIT RANDOMKEY READONLY RENAME
    RENAMENX RESET RESTORE ROLE RPOP RPOPLPUSH RPUSH RPUSHX SADD SAVE SCAN SCARD SDIFF SDIFFSTORE SELECT SET
    SETBIT SETEX SETNX SETRANGE SHUTDOWN SINTER SINTERCARD SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER SMOVE
    SORT SPOP SPUBLISH SRANDMEMBER SREM SSCAN SSUBSCRIBE STRLEN SUBSCRIBE SUNION SUNIONSTORE SWAPDB TIME
    TOUCH TTL TYPE UNLINK UNSUBSCRIBE UNWATCH WAIT WATCH XACK XADD XAUTOCLAIM XCLAIM XDEL XLEN XPENDING
    XRANGE XREAD XREADGROUP XREVRANGE XTRIM ZADD ZCARD ZCOUNT ZDIFF ZINCRBY ZINTER ZINTERSTORE ZLEXCOUNT
    ZMPOP ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE ZRANK ZREM
    ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION
    ZUNIONSTORE
    """.split()
)
_CONTAINERS = frozenset(
    """
    ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT
    SLOWLOG XGROUP XINFO
    """.split()
)
_SUBCOMMAND = re.compile(r"[A-Za-z-]{2,16}\Z")
_MODULE_COMMAND = re.compile(r"(?:JSON|FT|TS|BF|CF|CMS|TOPK|TDIGEST)\.[A-Z]{2,16}\Z")
_MAX_ARGUMENTS = 16


def scrub_redis(text: str | bytes) -> str:
    """The commands, one a line as in a pipeline, with `?` for every argument (keys hold e-mails too)."""
    if isinstance(text, bytes):
        text = text[:MAX_STATEMENT].decode("utf-8", "replace")
    return "\n".join(_redis_line(line) for line in text[:MAX_STATEMENT].split("\n"))


def _redis_line(line: str) -> str:
    words = line.split()
    if not words:
        return ""
    command = words[0].upper()
    kept = 1
    if command in _CONTAINERS:
        kept = 2 if len(words) > 1 and _SUBCOMMAND.match(words[1]) else 1
    elif command not in _COMMANDS and not _MODULE_COMMAND.match(command):
        kept = 0  # an argument with a line break in it looks like a command
    return " ".join(words[:kept] + ["?"] * min(len(words) - kept, _MAX_ARGUMENTS))
