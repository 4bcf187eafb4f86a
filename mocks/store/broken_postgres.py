"""PostgreSQL stores with one defect each; see `mocks.store.broken`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from mocks.store.postgres import PostgresStore
from mocks.store.postgres_session import PostgresSession

__all__ = ["BROKEN_POSTGRES"]


class NoPolicy(PostgresStore):
    """Row-level security was never switched on."""

    def _guard_sql(self) -> tuple[str, ...]:
        return (f"ALTER TABLE {self.schema}.records DISABLE ROW LEVEL SECURITY",)


class _WithPolicy(PostgresStore):
    """The sound store but for the text of its policy."""

    def _policy(self) -> str:
        raise NotImplementedError

    def _guard_sql(self) -> tuple[str, ...]:
        drop, _, *rest = super()._guard_sql()
        return (drop, f"CREATE POLICY mine ON {self.schema}.records {self._policy()}", *rest)


class WritesUnchecked(_WithPolicy):
    """The policy says which rows are seen, and WITH CHECK lets any be written.

    Without a word on WITH CHECK, PostgreSQL takes USING for it; one has to say this.
    """

    def _policy(self) -> str:
        return f"USING (tenant = (SELECT {self.schema}.tenant())) WITH CHECK (true)"


class OpenWhenUnbound(_WithPolicy):
    """Where no tenant is bound the policy lets everything through, for scripts' convenience."""

    def _policy(self) -> str:
        who = f"(SELECT {self.schema}.tenant())"
        return f"USING ({who} IS NULL OR tenant = {who})"


class SettingAlone(_WithPolicy):
    """The usual recipe: the policy believes a setting, which anyone may set."""

    def _policy(self) -> str:
        return "USING (tenant = current_setting('dagstorm.tenant', true))"


class PooledSetting(SettingAlone):
    """And it is set for the connection, not for the transaction; the pool keeps it."""

    def bind(self, con: Any, tenant: str) -> None:
        con.execute("SELECT set_config('dagstorm.tenant', %s, false)", (tenant,))

    def clean(self, con: Any) -> None:
        pass


class _IsMine(PostgresStore):
    """The sound store with a function that is asked for each row."""

    def _table_sql(self) -> tuple[str, ...]:
        s = self.schema
        return (
            *super()._table_sql(),
            f"""CREATE FUNCTION {s}.is_mine(whose text) RETURNS boolean
                LANGUAGE plpgsql STABLE SECURITY DEFINER COST 1000 AS
                $$ BEGIN RETURN whose = {s}.tenant(); END $$""",
        )


class OpaquePolicy(_IsMine):
    """The policy calls a function for each row, so no index condition has it."""

    def _guard_sql(self) -> tuple[str, ...]:
        drop, _, *rest = super()._guard_sql()
        table = f"{self.schema}.records"
        return (drop, f"CREATE POLICY mine ON {table} USING ({self.schema}.is_mine(tenant))", *rest)


class LeakyView(_IsMine):
    """A view shows the tenant's rows, but it is no security barrier."""

    def _table_sql(self) -> tuple[str, ...]:
        s = self.schema
        grant, to = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {s}.records", f" TO {self.app}"
        return (
            *(one for one in super()._table_sql() if not one.startswith(grant)),
            f"CREATE VIEW {s}.mine AS SELECT * FROM {s}.records WHERE {s}.is_mine(tenant) "
            f"WITH CHECK OPTION",
            grant.replace(".records", ".mine") + to,
        )

    def _guard_sql(self) -> tuple[str, ...]:
        return (f"ALTER TABLE {self.schema}.records DISABLE ROW LEVEL SECURITY",)

    def names(self) -> Mapping[str, str]:
        view = f"{self.schema}.mine"
        return {**super().names(), "own": view, "theirs": view}


class ImmutableTenant(PostgresStore):
    """The tenant's function is called IMMUTABLE, so a plan keeps its answer; the pool, the plan."""

    _volatility = "IMMUTABLE"

    def clean(self, con: Any) -> None:
        con.execute("RESET ALL")


class GlobalKey(PostgresStore):
    """The unique key leaves the tenant out, so two tenants' keys meet."""

    @property
    def unique(self) -> str:
        return "kind, key"


class TalkativeError(PostgresStore):
    """A trigger that keeps keys unique over all tenants says what the other one's key holds."""

    def _table_sql(self) -> tuple[str, ...]:
        s = self.schema
        return (
            *super()._table_sql(),
            f"""CREATE FUNCTION {s}.only_one() RETURNS trigger
                LANGUAGE plpgsql SECURITY DEFINER AS $$
                DECLARE held text;
                BEGIN
                    SELECT value INTO held FROM {s}.records
                        WHERE kind = new.kind AND key = new.key AND tenant <> new.tenant;
                    IF found THEN
                        RAISE unique_violation USING MESSAGE = new.key || ' holds ' || held;
                    END IF;
                    RETURN new;
                END $$""",
            f"CREATE TRIGGER only_one BEFORE INSERT ON {s}.records "
            f"FOR EACH ROW EXECUTE FUNCTION {s}.only_one()",
        )

    def _guard_sql(self) -> tuple[str, ...]:
        # Sound for the role that logs in; not forced, so that the owner's trigger sees all.
        return (
            *super()._guard_sql(),
            f"ALTER TABLE {self.schema}.records NO FORCE ROW LEVEL SECURITY",
        )


class TruncateGranted(PostgresStore):
    """The role was granted everything on the table, and no policy filters TRUNCATE."""

    def _table_sql(self) -> tuple[str, ...]:
        grant = f"GRANT ALL ON {self.schema}.records TO {self.app}"
        return (*super()._table_sql(), grant)


class OwnerForced(PostgresStore):
    """Sessions log in as the table's owner; the policy is forced, but an owner can drop it."""

    def _make(self, con: Any) -> None:
        super()._make(con)
        (password,) = con.execute(f"SELECT password FROM {self.schema}.seal").fetchone()
        con.execute(f"ALTER ROLE {self.owner} LOGIN PASSWORD '{password}'")

    def _log_in(self) -> Any:
        return self._connect(user=self.owner, password=self._password)


class OwnerNotForced(OwnerForced):
    """Sessions log in as the table's owner, and the policy is not forced for it."""

    def _guard_sql(self) -> tuple[str, ...]:
        return (
            *super()._guard_sql(),
            f"ALTER TABLE {self.schema}.records NO FORCE ROW LEVEL SECURITY",
        )


class MemberOfOwner(PostgresStore):
    """The role is a member of the owner's, for migrations, and may become it."""

    def _make(self, con: Any) -> None:
        super()._make(con)
        con.execute(f"GRANT {self.owner} TO {self.app}")

    def _guard_sql(self) -> tuple[str, ...]:
        return (
            *super()._guard_sql(),
            f"ALTER TABLE {self.schema}.records NO FORCE ROW LEVEL SECURITY",
        )


class AdministratorInDisguise(PostgresStore):
    """The pool logs in as the superuser and puts the role on, which can be taken off again."""

    def _log_in(self) -> Any:
        return self._connect()

    def bind(self, con: Any, tenant: str) -> None:
        con.execute(f"SET LOCAL ROLE {self.app}")
        super().bind(con, tenant)


class _ConventionSession(PostgresSession):
    @property
    def _condition(self) -> str:
        return f"tenant = '{self.tenant}'"

    def _run(self, sql: str, values: tuple[str, ...] | None = None) -> Any:
        # Values go into the statement's text, as a client does that quotes for itself.
        client = importlib.import_module("psycopg").ClientCursor(self._con)
        return client.execute(sql, values)


class ConventionOnly(NoPolicy):
    """Each of the client's statements says WHERE tenant = …, and nobody else says anything."""

    @property
    def _session(self) -> type[PostgresSession]:
        return _ConventionSession


BROKEN_POSTGRES: Mapping[str, type[PostgresStore]] = {
    "administrator_in_disguise": AdministratorInDisguise,
    "convention_only": ConventionOnly,
    "global_key": GlobalKey,
    "immutable_tenant": ImmutableTenant,
    "leaky_view": LeakyView,
    "member_of_owner": MemberOfOwner,
    "no_policy": NoPolicy,
    "opaque_policy": OpaquePolicy,
    "open_when_unbound": OpenWhenUnbound,
    "owner_forced": OwnerForced,
    "owner_not_forced": OwnerNotForced,
    "pooled_setting": PooledSetting,
    "setting_alone": SettingAlone,
    "talkative_error": TalkativeError,
    "truncate_granted": TruncateGranted,
    "writes_unchecked": WritesUnchecked,
}
"""PostgreSQL stores with a defect, by its name."""
