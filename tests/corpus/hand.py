"""The corpus's hand-written half: sentences, names, statements; `{}` is where the secret stands."""

# ruff: noqa: E501 (tables; word lists read better as text)

from __future__ import annotations

NAMES = "alice bruno chidera dalia emre farah goran hana iris jonas kateryna liam mei nadia otto priya".split()
HOSTS = "example.com mail.example.org example.co.uk corp.example.net post.example.de".split()

SENTENCES = {
    "held_out": [
        "rejected credential {} from 10.0.0.5",
        "ValueError: bad value '{}'",
        '{{"value": "{}", "retries": 3}}',
        "upstream said 401 for ({})",
        "first line\n{}\nlast line",
        "args=('{}', 17) kwargs={{}}",
        "[worker-3] using {}, attempt 2",
        "{}",
        "config loaded: provider=acme extra={} region=eu",
    ],
    "development": [
        "could not use {} here",
        "KeyError: \"{}\"",
        "<Client {}>",
        "['{}']",
        "called with {} twice",
        "{}\n",
        "value was `{}`.",
    ],
}  # fmt: skip

SECRET_KEYS = {
    "held_out": [("attribute", key) for key in """
DATABASE_PASSWORD bindPassword aws.secretAccessKey django.SECRET_KEY stripeApiKey passwordRepeat kwargs.new_password
oauth.client_secret jwt_refresh_token mfaCode db.pwd user.password_digest smtp.auth.password kafka.sasl.password
spring.datasource.password vault.token VAULT_ROLE_SECRET_ID consul_http_token datadog.api_key DD_APP_KEY NEW_RELIC_LICENSE_KEY
TWILIO_AUTH_TOKEN sendgridApiKey GITHUB_APP_PRIVATE_KEY gitlab_ci_job_token CI_JOB_TOKEN NPM_TOKEN PYPI_API_TOKEN
firebase.private_key fcmServerKey apns_auth_key sessionToken session.secret SESSION_SECRET flask.secret_key RAILS_MASTER_KEY
APP_KEY_BASE.secret encryption.passphrase pgpPassphrase sshPrivateKey tls.private_key_password keystore.password truststorePassword
card.cvc card.securityCode payment.cardNumber pinCode newPin user.ssn taxSocialSecurityNumber backupCodes recoveryCode
oneTimeCode otpSecret totp.seed.secret resetToken passwordResetToken emailVerificationToken inviteToken unsubscribeToken
magicLinkToken csrfMiddlewareToken form.csrf_token authenticityToken accessTokenSecret oauth_token_secret hmacSecret
webhookSigningSecret slackSigningSecret captchaSecretKey mapboxSecretToken algoliaAdminApiKey redisAuthPassword
celery.broker_password ftpPasswd ldap.bind_password wifi_passphrase license_key zoomSdkSecret
""".split()] + [("header", key) for key in """
Authorization Proxy-Authorization Cookie Set-Cookie X-Api-Key X-Auth-Token X-CSRFToken X-Amz-Security-Token X-Vault-Token
X-Gitlab-Token X-Shopify-Access-Token Private-Token X-Goog-Api-Key Ocp-Apim-Subscription-Key X-Functions-Key
X-Hub-Signature-256 Stripe-Signature X-Slack-Signature X-Session-Token Api-Key Apikey X-Access-Token X-Refresh-Token
X-Amz-Credential-Secret X-Client-Secret X-Forwarded-Authorization X-Otp-Code Sec-Session-Token
""".split()] + [("attribute", f"http.request.header.{key}") for key in
                "authorization cookie x_api_key x_auth_token x_csrftoken proxy_authorization x_gitlab_token".split()],
    "development": [("attribute", key) for key in """
password user_password PASSWORD2 secret_key client_secret api_key apiToken accessToken refreshToken privateKey session_id
SESSION_KEY csrf_token otp pin cvv iban card_number auth bearer webhook_secret signing_key db_password smtpPassword
jwt redis.password ssh_key passphrase recovery_codes credentials connection_string account_key subscription_key
functions_key server_key aws_secret dsn license_key unlock_code session_token
""".split()] + [("header", key) for key in """
Authorization Cookie X-Api-Key X-Auth-Token X-CSRF-Token X-Access-Token Proxy-Authorization Ocp-Apim-Key X-Functions-Key
X-Signature Set-Cookie
""".split()],
}  # fmt: skip

NAMED = {
    "held_out": [
        "POST failed: password={} username=otto",
        "settings.SECRET_KEY = '{}'",
        "export AWS_SECRET_ACCESS_KEY={}",
        "aws_secret_access_key = {}",
        "{{'card_cvc': '{}', 'amount': 12}}",
        '{{"client_secret":"{}","grant_type":"client_credentials"}}',
        '{{"user": {{"newPassword": "{}"}}}}',
        "curl -H 'Authorization: Bearer {}' https://api.example.com",
        "curl -H \"X-Api-Key: {}\" https://api.example.com",
        "curl -u admin:{} https://api.example.com",
        "mysql -u root --password={} shop",
        "docker login --username acme --password {}",
        "java -Djavax.net.ssl.keyStorePassword={} -jar app.jar",
        "Invalid API key provided: {}",
        "Incorrect API key provided: {}. You can find your key in the dashboard.",
        "token={}&user=3",
        "refresh_token: {}",
        "x-auth-token: {}",
        "Cookie: csrftoken={}; theme=dark",
        "Set-Cookie: sessionid={}; HttpOnly; Path=/; SameSite=Lax",
        "Authorization: Token {}",
        "Authorization: Digest username=\"otto\", response=\"{}\"",
        "authorization => Basic {}",
        "OAuth oauth_consumer_key=\"{}\", oauth_nonce=\"7\"",
        "auth=('otto', '{}')",
        "User(id=3, name='otto', password='{}')",
        "LoginForm(username='otto', password='{}')",
        "Credentials(access_key='{}', region='eu')",
        "smtp login failed for otto, password '{}'",
        "the password is {}",
        "passwd: {}",
        "PGPASSWORD={} psql -h db",
        "DJANGO_SECRET_KEY={}\nDEBUG=0",
        "<wsse:Password Type=\"PasswordText\">{}</wsse:Password>",
        "<apiKey>{}</apiKey>",
        "api_key: \"{}\"",
        "api-key={}",
        "secret: '{}'",
        "access_token={};expires=3600",
        "\"session_token\" => \"{}\"",
        "b'{{\"password\": \"{}\"}}'",
        "password%3D{}%26user%3D3",
        "login(user=3, pin={})",
        "otp={} is wrong",
        "two_factor_code={}",
        "kwargs={{'token': '{}'}}",
        "Password: {}",
        "pwd={};",
        "vault kv put secret/app password={}",
        "redis-cli -a {} ping",
    ],
    "development": [
        "password={}",
        "login password: {} refused",
        '{{"api_key": "{}"}}',
        "{{'token': '{}'}}",
        "export SECRET_KEY={}",
        "Bearer {}",
        "--token {} --verbose",
        "Cookie: sessionid={}",
        "X-Api-Key: {}",
        "<secret>{}</secret>",
        "sshpass -p {} ssh host",
        "mysql -uroot -p{} shop",
        "curl --user otto:{} https://example.com",
        "the token is {}",
        "wrong password '{}'",
        "Invalid token: {}",
        "password \"{}\" is too short",
        "redis-cli -h cache -a {}",
        "password%3D{}",
    ],
}  # fmt: skip

URLS = {
    "held_out": [
        "https://api.example.com/v1/geo?key={}&q=berlin",
        "https://maps.example.com/api/js?v=3&key={}",
        "https://api.example.com/data?appid={}&q=paris",
        "https://api.example.com/?api_key={}",
        "https://api.example.com/?apikey={}&page=2",
        "https://otto:{}@files.example.com/a",
        "https://{}@github.example.com/acme/shop.git",
        "https://shop.example.com/cb?code={}&state=9",
        "https://shop.example.com/accounts/reset/Mg/{}/",
        "https://shop.example.com/#access_token={}&token_type=bearer",
        "https://cdn.example.com/a.png?X-Amz-Signature={}&X-Amz-Date=20260101",
        "https://cdn.example.com/a.png?Expires=17&Signature={}&Key-Pair-Id=APK",
        "/login?next=/&password={}",
        "/hook?token={}",
        "/hook?auth={}",
        "/verify-email/{}/",
        "/invite/{}",
        "/unsubscribe?sid={}",
        "/download?sig={}",
        "wss://live.example.com/socket?access_token={}",
        "/oauth/authorize?client_id=7&client_secret={}",
        "/a?user%5Bpassword%5D={}",
        "/a?next=https%3A%2F%2Fx.example%2F%3Ftoken%3D{}",
        "/saml?SAMLResponse={}",
        "/jwt?id_token={}",
        "/pay?card_number={}",
        "/ws/?session={}",
        "https://api.telegram.example/bot1234567890:AA{}abcdefghijklmnopq/getMe",
        "/signed?hmac={}",
        "/a;jsessionid={}?x=1",
    ],
    "development": [
        "https://maps.example.com/api?key={}&zoom=3",
        "/a?access_token={}",
        "https://u:{}@example.com/",
        "/reset/{}/",
        "/a?sig={}&page=2",
        "/a?x=1&secret={}",
        "/cb?state=1&code={}",
        "/app;jsessionid={}",
        "/a?appid={}",
        "/a?pw={}",
    ],
}  # fmt: skip

CONNECTIONS = {
    "held_out": [
        "OperationalError: postgresql://shop:{}@db.internal:5432/shop?sslmode=require",
        "postgresql+psycopg://shop:{}@db/shop",
        "mysql://root:{}@mysql:3306/shop",
        "redis://:{}@cache:6379/0",
        "rediss://default:{}@cache.example.com:6380",
        "amqps://shop:{}@mq.example.com/vhost",
        "mongodb+srv://shop:{}@cluster0.example.net/test?retryWrites=true",
        "Server=tcp:sql.example.net;Database=shop;User ID=otto;Password={};Encrypt=True",
        "Driver={{ODBC Driver 18}};UID=otto;PWD={}",
        "host=db port=5432 user=shop password={} dbname=shop",
        "Endpoint=sb://shop.example.net/;SharedAccessKeyName=root;SharedAccessKey={}",
        "jdbc:postgresql://db/shop?user=otto&password={}",
        "jdbc:oracle:thin:shop/{}@db:1521:orcl",
        "smtp://postmaster:{}@smtp.example.com:587",
        "ldap://cn=admin:{}@ldap.example.com",
        "ftp://otto:{}@ftp.example.com/pub",
        "https://{}@o17.ingest.sentry.example/42",
        "sqlserver://sa:{}@db:1433?database=shop",
        "clickhouse://default:{}@ch:9000/shop",
        "s3://AK:{}@bucket/key",
        "celery broker pyamqp://guest:{}@mq//",
        "kombu.exceptions.OperationalError: Error connecting to redis://:{}@cache:6379/1.",
    ],
    "development": [
        "postgres://app:{}@db/shop",
        "cannot reach redis://:{}@cache:6379/0",
        "amqp://u:{}@mq:5672//",
        "mongodb://u:{}@m1,m2/shop",
        "host=db password={}",
        "Server=db;Pwd={};",
        "jdbc:oracle:thin:app/{}@//db:1521/x",
        "https://{}@o1.ingest.example/2",
    ],
}  # fmt: skip

DETAILS = {
    "held_out": [
        'duplicate key value violates unique constraint "accounts_user_email_key"\nDETAIL:  Key (email)=({}) already exists.\n',
        'DETAIL:  Key (tenant_id, slug)=(4, {}) already exists.',
        'insert or update on table "post" violates foreign key constraint "post_owner"\nDETAIL:  Key (owner)=({}) is not present in table "user".',
        'DETAIL:  Failing row contains (7, {}, null, 2026-01-01).',
        'invalid input syntax for type uuid: "{}"',
        'invalid input value for enum mood: "{}"',
        'date/time field value out of range: "{}"',
        "Duplicate entry '{}' for key 'user.email_uniq'",
        "Incorrect integer value: '{}' for column 'age' at row 1",
        "Data truncated; value '{}' too long for column 'name'",
        "UNIQUE constraint failed\nLINE 1: ...T INTO user VALUES ('{}')\n",
        "[SQL: INSERT INTO t VALUES (%s)]\n[parameters: ('{}',)]",
        'value "{}" is out of range for type integer',
        "DETAIL:  Token \"{}\" is invalid.\nCONTEXT:  JSON data, line 1",
        "ERROR:  conflicting key value violates exclusion constraint\nDETAIL:  Key (room, during)=({}, x) conflicts with existing key (room, during)=(1, y).",
    ],
    "development": [
        "DETAIL:  Key (name)=({}) already exists.",
        "Failing row contains ({}, 3).",
        "Duplicate entry '{}' for key 'x'",
        'invalid input syntax for type integer: "{}"',
        "Incorrect string value: '{}' for column 'a' at row 2",
        'value "{}" is out of range for type bigint',
        "[parameters: {{'a': '{}'}}]",
        'DETAIL:  Token "{}" is invalid.',
        'time zone "{}" not recognized',
        'date/time field value out of range: "{}"',
        'invalid byte sequence near "{}"',
    ],
}  # fmt: skip

SQL = {
    "held_out": [
        "SELECT * FROM auth_user WHERE email = '{}'",
        "INSERT INTO card (holder, pan) VALUES ('{}', 4)",
        "UPDATE user SET name = $${}$$ WHERE id = 3",
        "SELECT 1 -- {}\nFROM t",
        "SELECT /* {} */ 1",
        "COPY t FROM stdin; '{}'",
        "ALTER ROLE shop WITH PASSWORD '{}'",
        "CREATE USER shop IDENTIFIED BY '{}'",
        "SELECT * FROM t WHERE a LIKE '%{}%' ESCAPE '!'",
        "SELECT * FROM t WHERE x IN ('a', '{}', 'b')",
        "CALL login(E'it\\'s {}')",
        "SELECT * FROM t WHERE data @> '{{\"name\": \"{}\"}}'::jsonb",
        "SELECT U&'{}'",
        "SELECT * FROM t WHERE a = '{}",
    ],
    "development": [
        "SELECT * FROM t WHERE a = '{}'",
        "INSERT INTO t VALUES ('{}')",
        "SELECT /* why */ '{}'",
        "SELECT $x${}$x$",
        "SET PASSWORD = '{}'",
    ],
}  # fmt: skip

REDIS = {
    "held_out": [
        "SET session:{} 1", "AUTH default {}", "HSET user:9 email {}", "EVALSHA abc 1 {}", "PUBLISH room {}", "XADD s * f {}",
        "CONFIG SET requirepass {}", "MGET a b {}", "SETEX {} 60 v", "FT.SEARCH idx {}", "HELLO 3 AUTH default {}", "{} GET",
    ],
    "development": ["SET k {}", "GET user:{}", "AUTH {}", "LPUSH q {}", "ACL SETUSER bob >{}"],
}  # fmt: skip

CARD_SENTENCES = {
    "held_out": ["charge of {} declined", "{{'pan': '{}'}}", "PAN {} (visa)", "pay {} now\n", "card:{}", '{{"number": "{}"}}', "{}"],
    "development": ["paid with {}", "number={}", "[{}]", "'{}' is no valid number"],
}  # fmt: skip
IBAN_SENTENCES = {
    "held_out": ["transfer to {} failed", "account {}", '{{"iban": "{}"}}', "to={}", "SEPA mandate for {}, B2B", "{}"],
    "development": ["paid to {}", "'{}'", "from {} today"],
}  # fmt: skip
MAIL_SENTENCES = {
    "held_out": ["no user {} here", "<{}>", "to={}, cc=none", "User {} logged in", "SMTPRecipientsRefused: {{'{}': (550, b'no')}}", "mailto:{}?subject=x", "{}"],
    "development": ["mail to {} bounced", "({})", "'{}'", "user={}"],
}  # fmt: skip

PLAIN_SENTENCES = {
    "held_out": ["processed {} in 12 ms", "{}", "value '{}' was stored", '{{"ref": "{}"}}', "see {}, please", "id={} state=done", "({})", "not found: {}"],
    "development": ["got {}", "'{}'", "ref={} ok", "[{}]", "cannot find {}", "item {} done"],
}  # fmt: skip

PLAIN_KEYS = {
    "held_out": """
author keyboard tokenizer session_count sessions.active authors monkeys.count secretariat passenger.name compass tokens_total
llm.token_count max_output_tokens cache.key cache.key_prefix redis.key.count partition.key sort_key foreign_key primaryKey
public_key key_length keyword keywords keyboard_layout hotkeys monkey donkey.id author_id authored_at authority coauthor
is_authenticated auth_method auth.type authentication_backend login_count last_login password_changed_at password_policy
password_length has_password secret_santa_event_count token_type token_expires_in session_duration_ms session.started
pin_board pinned spinning.count shipping_pincer cookie_policy cookie_consent signature_version design.id assigned signal
cards_shown business_card.count card_type discard credit_limit credits_left certificate_count certified order.number
order_code country_code status_code zip_code product_code error_code promo_code http.status_code code.function.name
code.lineno code.namespace messaging.kafka.partition messaging.message.id db.collection.name db.operation.name
service.instance.id process.runtime.version user.id user_type thread.name business.operation journey.step feature.flag
""".split(),
    "development": """
author_name keyboard.type tokenizer_name session_total passport_country compass.heading token_usage cache_key sort.key
keynote hockey.team design_id signal.strength card_brand pin_count status.code error.code order_id user.role passed passes
""".split(),
}  # fmt: skip

PLAIN_TEXTS = {
    "held_out": [
        "The password must be at least 8 characters long.",
        "password reset requested",
        "passwords do not match",
        "token expired",
        "Token is invalid or expired",
        "Invalid token.",
        "the token is expired",
        "the password is incorrect",
        "Authentication credentials were not provided.",
        "CSRF Failed: CSRF token missing.",
        "session expired after 30 minutes",
        "secret santa draw finished for 12 people",
        "KeyError: 'api_key'",
        "AttributeError: 'NoneType' object has no attribute 'token'",
        "missing environment variable STRIPE_SECRET_KEY",
        "TypeError: login() missing 1 required keyword-only argument: 'password'",
        "from django.contrib.auth.tokens import default_token_generator",
        "accounts/templates/registration/password_reset_email.html",
        "ModuleNotFoundError: No module named 'keyring.backends'",
        "INSTALLED_APPS: django.contrib.sessions, django.contrib.auth",
        "celery@worker1 ready.",
        "connected to redis://cache:6379/0",
        "connecting to postgresql://db.internal:5432/shop",
        "GET /api/v1/users/42/posts?page=2&sort=-created HTTP/1.1 200 1532",
        "10.2.3.4 - - [24/Nov/2026:05:08:15 +0000] \"GET / HTTP/1.1\" 200",
        "retry 3 of 5 in 2.5 s",
        "max_tokens=256, temperature=0.2",
        "gpt usage: prompt_tokens=12 completion_tokens=7 total_tokens=19",
        "Basic plan chosen by customer 12",
        "bearer of bad news",
        "digest created in 3 ms",
        "basic math: 12345678 + 1",
        "token ring network, 16 Mbit",
        "Dear Sir or Madam, your parcel 00340434161094042557 is on its way",
        "tracking 1Z999AA10123456784 handed over",
        "ISBN 978-3-16-148410-0 in stock",
        "VIN WVWZZZ1JZXW000001 registered",
        "BIC DEUTDEFF500 accepted",
        "phone +49 30 901820 called back",
        "sizes: 4000x3000, 1024x768",
        "build 20261124.1, commit a1b2c3d4",
        "nginx/1.27.3 (Ubuntu) OpenSSL/3.0.13",
        "py3-none-any.whl, cp311-manylinux_2_17_x86_64",
        "git@github.example.com:acme/shop.git",
        "user@host:~$ is no address",
        "@decorator applied to view",
        "see RFC 7519, section 4.1.4",
        "a=1, b=2, key=value, sort_key=3",
        "primary key (id) missing",
        "index \"auth_user_username_key\" created",
        "SELECT count(*) FROM django_session took 3.2 ms",
        "locale de_DE.UTF-8, tz Europe/Berlin",
        "color=#ff00aa; width: 12px",
        "{'count': 3, 'items': [1, 2, 3], 'next': None}",
        "Traceback (most recent call last):\n  File \"/app/shop/views.py\", line 12, in get\n    return self.key\n",
        "pin the dependency to 4.2",
        "author=otto editor=mei",
        "keyboard: qwertz",
        "code: 404, reason: not found",
        "state=open code=E1234",
        "secret=None",
        "password: ********",
        "password=[Filtered]",
        "api_key=<hidden>",
        "key=sort value=asc",
        "hash mismatch: expected sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "Content-Security-Policy: default-src 'self'; script-src 'nonce-2726c7f26c'",
        "cache key posts:list:page:2 missed",
        "lock key orders:42 is held",
        "signature verification failed",
        "certificate verify failed: unable to get local issuer certificate",
        "SSL: WRONG_VERSION_NUMBER",
        "one-time code sent by SMS",
        "your PIN was changed",
        "iban missing",
        "card declined: insufficient funds",
        "cookie banner shown",
        "Set the api key in settings first",
        "-p 8080 is published",
        "docker run -p 8080:80 -a stdout shop",
        "tar -a -cf out.tar.gz src",
        "mkdir -p /srv/shop/media",
        "cp -a media backup",
    ],
    "development": [
        "password too short", "wrong password", "the token is missing", "Invalid token", "sort_key=3", "author: otto", "mkdir -p dir",
        "ssh -p 2222 host", "git commit -a -m x", "curl -u is for users", "value 7 is out of range", "token limit reached",
        "the password is required", "key=value", "public key loaded", "max_tokens: 3", "session closed", "a token was found",
        "redis-cli ping", "password is too common", "the secret is out", "invalid token type", "time zone unknown",
    ],
}  # fmt: skip

PLAIN_URLS = {
    "held_out": [
        "https://shop.example.com/posts/42/?page=2&sort=-created",
        "/search?q=blue+dress&size=m",
        "/api/orders/550e8400-e29b-41d4-a716-446655440000",
        "/static/css/main.3f2a1b9c.css?v=20261124",
        "/accounts/login/?next=/dashboard/",
        "/password_reset/done/",
        "/api/tokens?limit=10",
        "/keyboards?brand=cherry&layout=iso",
        "/authors/7/books?year=1999",
        "/a?status_code=200&code=7",
        "https://cdn.example.com/img/4000x3000/a1b2c3d4e5f6.webp",
        "/sessions?from=2026-01-01&to=2026-02-01",
        "/cart?add=SKU-12345-XL",
        "/map?lat=52.52&lng=13.40&zoom=9",
        "/feed?cursor=100&direction=next",
        "/?utm_source=mail&utm_campaign=autumn",
        "/share/photo-of-the-week",
        "/login-help",
        "/verify",
        "/a?key=name&order=asc",
        "/i18n/?lang=de-DE",
        "/objects?key=posts/2026/cover.jpg",
        "/cache?key=user_list",
    ],
    "development": ["/a?page=2", "/list?key=name", "/a?sort=key", "/x?code=200", "/files?key=a/b.txt", "/reset/help", "/a?id=7"],
}  # fmt: skip

PLAIN_SQL = {
    "held_out": [
        'SELECT "auth_user"."id", "auth_user"."email" FROM "auth_user" WHERE "auth_user"."id" = %s LIMIT %s',
        "INSERT INTO post (title, body) VALUES (%s, %s) RETURNING id",
        "UPDATE t SET a = $1, b = $2 WHERE id = $3",
        "DELETE FROM django_session WHERE expire_date < %s",
        "SELECT count(*) FROM t GROUP BY kind HAVING count(*) > %s",
        "BEGIN",
        "SAVEPOINT s140298822675328_x1",
        "SELECT a::int, b::jsonb -> %s FROM t2",
        "WITH x AS (SELECT id FROM t) SELECT * FROM x WHERE id = ANY(%s)",
        "SELECT * FROM `order` WHERE `key` = ?",
        "CREATE INDEX idx_a1 ON t (a, b)",
        "SELECT :name, %(pk)s FROM dual",
    ],
    "development": ["SELECT a FROM t WHERE b = %s", "COMMIT", "SELECT * FROM t1 WHERE x = $1"],
}  # fmt: skip
