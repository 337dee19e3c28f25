"""Money that went back: refunds and disputes of one organization, inside its transaction."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.invoices import Dispute, Payment, Refund


def payment_by_intent(session: Session, organization_id: UUID, intent_id: str) -> Payment | None:
    """The payment that brought money in through this payment intent."""
    return session.execute(
        select(Payment)
        .where(
            Payment.organization_id == organization_id,
            Payment.stripe_payment_intent_id == intent_id,
            Payment.status.in_(("succeeded", "refunded")),
        )
        .order_by(Payment.attempt.desc())
        .limit(1)
    ).scalar_one_or_none()


def refund_by_stripe_id(session: Session, organization_id: UUID, stripe_id: str) -> Refund | None:
    return session.execute(
        select(Refund).where(Refund.organization_id == organization_id, Refund.stripe_refund_id == stripe_id)
    ).scalar_one_or_none()


def refunded_minor(session: Session, payment: Payment) -> int:
    """What has really gone back of a payment, in minor units."""
    return int(
        session.execute(
            select(func.coalesce(func.sum(Refund.amount_minor), 0)).where(
                Refund.organization_id == payment.organization_id,
                Refund.payment_id == payment.id,
                Refund.status == "succeeded",
            )
        ).scalar_one()
    )


def dispute_by_stripe_id(session: Session, organization_id: UUID, stripe_id: str) -> Dispute | None:
    return session.execute(
        select(Dispute).where(
            Dispute.organization_id == organization_id, Dispute.stripe_dispute_id == stripe_id
        )
    ).scalar_one_or_none()
